#!/bin/sh
# Renders /etc/nginx/templates/<path>.template to /etc/nginx/conf.d/<path>; only variables that are set are replaced.
set -e

templates=${NGINX_ENVSUBST_TEMPLATE_DIR:-/etc/nginx/templates}
suffix=${NGINX_ENVSUBST_TEMPLATE_SUFFIX:-.template}
output=${NGINX_ENVSUBST_OUTPUT_DIR:-/etc/nginx/conf.d}

[ -d "$templates" ] || exit 0
if [ ! -w "$output" ]; then
    echo "$0: ERROR: $templates exists, but $output is not writable"
    exit 0
fi

names=$(awk -v filter="${NGINX_ENVSUBST_FILTER:-}" 'BEGIN { for (n in ENVIRON) if (n ~ filter) printf "${%s} ", n }')
find "$templates" -follow -type f -name "*$suffix" | while read -r template; do
    path=${template#"$templates"/}
    target=$output/${path%"$suffix"}
    mkdir -p "$(dirname "$target")"
    envsubst "$names" < "$template" > "$target"
done
