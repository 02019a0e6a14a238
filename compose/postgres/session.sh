#!/bin/sh
# session.sh <role> <program> [<argument> …]: runs psql, pg_dump, pg_restore and their like in the database's container, as a role over its
# socket. Every session of Flotilla's is opened here. Who owns a database has its settings (ALTER DATABASE … SET) and its schemas: a
# superuser that believed them would call the owner's functions for its own. What is given on a connection goes before what is set for a
# role or a database, so every setting is given that changes what a statement means, where it is written or whether it runs.
set -eu
role=$1
shift

# Names that are not qualified are PostgreSQL's.
options="
-c search_path=pg_catalog,pg_temp
-c role=none
-c session_authorization=$role
-c local_preload_libraries=
-c row_security=off
-c check_function_bodies=off
-c default_transaction_read_only=off
-c default_transaction_deferrable=off
-c default_transaction_isolation=read\\ committed
-c statement_timeout=0
-c lock_timeout=0
-c idle_in_transaction_session_timeout=0
-c idle_session_timeout=0
-c exit_on_error=off
-c default_tablespace=
-c temp_tablespaces=
-c default_table_access_method=heap
-c password_encryption=scram-sha-256
-c standard_conforming_strings=on
-c backslash_quote=safe_encoding
-c escape_string_warning=on
-c transform_null_equals=off
-c array_nulls=on
-c constraint_exclusion=partition
-c client_min_messages=error
-c DateStyle=ISO
-c IntervalStyle=postgres
-c TimeZone=UTC
-c timezone_abbreviations=Default
-c bytea_output=hex
-c extra_float_digits=1
-c quote_all_identifiers=off
-c xmlbinary=base64
-c xmloption=content
-c lc_monetary=C
-c lc_numeric=C
-c lc_time=C
-c log_parameter_max_length_on_error=0
-c debug_print_parse=off
-c debug_print_rewritten=off
-c debug_print_plan=off"
# Nobody else may give these, or have set them.
[ "$role" != postgres ] || options="$options -c session_preload_libraries= -c session_replication_role=origin"
# A dump is in the encoding that its caller names.
[ "$1" != psql ] || options="$options -c client_encoding=UTF8"
# The version of the server; the caller says it where that is not this container's.
case ${PG_MAJOR:-0} in
0 | 1[0-6]) ;;
*) options="$options -c transaction_timeout=0" ;;
esac

export PGOPTIONS="$options" PGUSER="$role"
exec "$@"
