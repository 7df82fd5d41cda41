#!/usr/bin/env bash
# Run all findings and list those that changed; ends with 1 when there are any.
set -uo pipefail
cd "$(dirname "$0")"
changed=()
for script in *.sh; do
  [ "$script" = run.sh ] && continue
  echo "== $script"
  bash "$script" || changed+=("$script")
done
if [ ${#changed[@]} -gt 0 ]; then
  echo "changed: ${changed[*]}"
  exit 1
fi
echo "nothing changed"
