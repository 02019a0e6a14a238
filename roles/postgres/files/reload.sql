-- Load the configuration again, and say which of its settings wait for a restart.
SELECT pg_conf_load_time() AS loaded \gset
SELECT pg_reload_conf() AS signalled \gset
SELECT pg_sleep(0.5) AS slept \gset
SELECT json_build_object(
  'loaded', pg_conf_load_time() > :'loaded'::timestamptz,
  'restart', (SELECT coalesce(json_agg(name), '[]') FROM pg_settings WHERE pending_restart),
  'errors', (SELECT coalesce(json_agg(error), '[]') FROM pg_hba_file_rules WHERE error IS NOT NULL));
