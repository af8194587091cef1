#!/usr/bin/env bash
# commands.sh SCIMGATE shows what explain, check and a serve without any configuration say, and fails when one of them
# answers otherwise than it has to.
set -euo pipefail
scimgate=$(realpath "$1")

. "$(dirname "$0")/stage.sh"
cd "$work"

# exits CODE COMMAND... prints what the command says, into out as well.
exits() {
	local want=$1 got=0
	shift
	"$@" >out 2>&1 || got=$?
	cat out
	[ "$got" -eq "$want" ] || fail "exit code $got, want $want"
}
says() { grep -qF -- "$1" out || fail "it does not say: $1"; }

echo '--- explain: a create with a userName of 31 characters'
cat >create.json <<'REQUEST'
{"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "maximilian.muster@example.co.uk"}
REQUEST
exits 1 "$scimgate" explain --profile bluejeans <create.json
says 'userName has 31 characters; the upstream takes at most 30'
says 'Nothing would be sent'

printf '\n--- explain: a PATCH in the default dialect of Entra\n'
cat >patch.txt <<'REQUEST'
PATCH /Users/271 HTTP/1.1
Content-Type: application/scim+json

{"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": [
  {"op": "Replace", "path": "active", "value": "False"},
  {"op": "Add", "path": "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager", "value": "272"}]}
REQUEST
exits 0 "$scimgate" explain --profile generic <patch.txt
says '"op": "replace"'
says '"value": false'

printf '\n--- check: a file with five different mistakes\n'
cat >five.yaml <<'CONFIG'
listen: localhost
database: postgres://db.example.com/scimgate
log: {level: loud}
connections:
  - name: one
    tokens: [{name: entra, sha256: abc}]
    profil: bluejeans
    upstream: {token: {env: UPSTREAM_TOKEN}}
CONFIG
exits 1 env UPSTREAM_TOKEN=upstream-token "$scimgate" check --config five.yaml
for place in 1:9 2:11 3:14 6:36 7:5; do
	says "five.yaml:$place: "
done
[ "$(wc -l <out)" -eq 5 ] || fail "five mistakes, $(wc -l <out) lines"

printf '\n--- serve without any configuration, and the lines it prints to try it\n'
# It calls itself by the path it was started by, unless that is in TMPDIR, where `go run` puts its binaries.
env -i PATH="$PATH" HOME="$work" TMPDIR="$work/tmp" SCIMGATE_LISTEN=127.0.0.1:0 SCIMGATE_ADMIN_LISTEN=127.0.0.1:0 \
	"$scimgate" serve >serve.out 2>serve.err </dev/null &
pids+=($!)
within "the gateway says how to try it" grep -q 'audit tail' serve.out
cat serve.out
sed -n 's/^  \(TOKEN=\|curl \|.* audit tail\)/\1/p' serve.out >try.sh
[ "$(wc -l <try.sh)" -eq 5 ] || fail "the lines to try it are $(wc -l <try.sh), want 5"
exits 0 bash -e try.sh
says '"totalResults":0'
says '"userName":"ann@example.com"'
says '"externalId":"e-1"'
says '"totalResults":1'
says 'created'
