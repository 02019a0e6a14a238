-- stale: a file is newer than what the server has loaded, or the server waits for a restart to apply a setting.
-- Files carry whole seconds, so one of the same second counts as newer.
SELECT json_build_object(
  'stale',
  EXISTS (
    SELECT FROM unnest(ARRAY[current_setting('config_file'), current_setting('hba_file')]) AS file
    WHERE (pg_stat_file(file)).modification >= date_trunc('second', pg_conf_load_time()))
  OR EXISTS (SELECT FROM pg_settings WHERE pending_restart));
