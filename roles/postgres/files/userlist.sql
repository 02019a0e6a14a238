-- PgBouncer's list of logins: the server's own verifiers, with which it can ask for a password and log in with what the client proves.
SELECT format('"%s" "%s"', replace(rolname, '"', '""'), rolpassword)
FROM pg_authid
WHERE rolcanlogin AND NOT rolsuper AND NOT rolreplication AND rolpassword LIKE 'SCRAM-SHA-256$%'
ORDER BY rolname;
