#!/usr/bin/env bash
# interop.sh SCIMGATE UPSTREAM runs `scimgate serve` from the environment alone, profile generic, in front of an upstream:
# the word "simulator" for `scimgate simulate upstream`, else the path of python-scim's scim2-server. Two Entra-like
# clients, one in each PATCH dialect, and curl calls go through it. It prints both transcripts, and fails when an answer or
# the number of upstream calls is not what it has to be.
set -euo pipefail
scimgate=$1 upstream=$2

. "$(dirname "$0")/stage.sh"

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
random() { python3 -c 'import uuid; print(uuid.uuid4())'; }

# start_scim2_server does for python-scim's server what start_simulator does for ours.
start_scim2_server() {
	local port
	port=$(free_port)
	background upstream env PYTHONUNBUFFERED=1 "$upstream" --hostname 127.0.0.1 --port "$port" --bearer-token "$upstream_token"
	within "scim2-server says where it is" grep -q 'Serving SCIM' "$work/upstream.out"
	upstream_url=http://127.0.0.1:$port/v2
}

# trail_calls REQUEST prints how many upstream calls the trail tells of; of every request without REQUEST.
trail_calls() {
	"$scimgate" audit search --database "$work/scimgate.db" --json ${1:+--request "$1"} | jq -s 'map(.calls // [] | length) | add // 0'
}

# logged counts the lines of the upstream's own access log. The simulator has none; it tells its sum when it stops.
logged() { grep -c '^127\.0\.0\.1 .*HTTP/1' "$work/upstream.err" || true; }
expected_log=0
log_agrees() { [ "$(logged)" -eq "$expected_log" ]; }

# call METHOD TARGET [BODY] sends a request as curl does, and prints it with its answer.
call() {
	local method=$1 target=$2 body=${3-}
	local args=(-s -S --max-time 30 -X "$method" -D "$work/head" -o "$work/body" -w '%{http_code}' -H "Authorization: Bearer ${bearer:-$token}")
	if [ -n "$body" ]; then
		args+=(-H 'Content-Type: application/scim+json; charset=utf-8' --data-binary "$body")
	fi
	printf '\n%s %s\n' "$method" "$target"
	[ -z "$body" ] || printf '  > %s\n' "$body"
	: >"$work/body"
	status=$(curl "${args[@]}" "$tenant$target" </dev/null)
	request=$(tr -d '\r' <"$work/head" | awk 'tolower($1) == "x-request-id:" { print $2 }')
	printf '  < %s\n' "$status"
	[ ! -s "$work/body" ] || printf '    %s\n' "$(cat "$work/body")"
}

# status_is and calls_are look at the last call.
status_is() {
	local want
	for want in "$@"; do
		if [ "$status" = "$want" ]; then return; fi
	done
	fail "status $status, want $*"
}

calls_are() {
	local want=$1 got
	got=$(trail_calls "$request")
	[ "$got" -eq "$want" ] || fail "the trail tells of $got upstream calls for request $request, want $want"
	if [ "$upstream" = simulator ]; then
		echo "  = upstream calls: $got (trail)"
		return
	fi
	expected_log=$((expected_log + want))
	within "the upstream logged $expected_log requests, and not $(logged)," log_agrees
	echo "  = upstream calls: $got (trail), $want (the upstream's access log)"
}

# holds FILTER is a jq filter over the last answer that must be true.
holds() {
	jq -e "$1" "$work/body" >/dev/null || fail "not true of the answer: $1"
}

# reads ID FILTER reads a user and checks it.
reads() {
	call GET "/Users/$1"
	status_is 200
	calls_are 1
	holds "$2"
}

enterprise=urn:ietf:params:scim:schemas:extension:enterprise:2.0:User
person() { # userName givenName familyName
	jq -nc --arg name "$1" --arg given "$2" --arg family "$3" --arg ext "$(random)" --arg urn "$enterprise" '{
		schemas: ["urn:ietf:params:scim:schemas:core:2.0:User", $urn], externalId: $ext, userName: $name, active: true,
		emails: [{primary: true, type: "work", value: $name}], meta: {resourceType: "User"},
		name: {formatted: ($given + " " + $family), givenName: $given, familyName: $family}, roles: []}'
}
patch() { # operations
	printf '{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[%s]}' "$1"
}

by_hand() {
	local ann ben group
	echo "--- Test Connection"
	call GET "/Users?filter=userName+eq+%22$(random)%22"
	status_is 200
	calls_are 1
	holds '.totalResults == 0 and (.schemas | index("urn:ietf:params:scim:api:messages:2.0:ListResponse"))'
	call GET "/Groups?excludedAttributes=members&filter=displayName+eq+%22$(random)%22"
	status_is 200
	calls_are 1
	holds '.totalResults == 0'
	bearer=not-the-secret-token call GET "/Users?filter=userName+eq+%22x%22"
	status_is 401
	calls_are 0

	echo
	echo "--- match, create"
	call GET "/Users?filter=userName+eq+%22x%22"
	status_is 200
	calls_are 1
	holds '.totalResults == 0 and .Resources == []'
	call POST /Users "$(person ann.lee@example.com Ann Lee)"
	status_is 201
	calls_are 1
	ann=$(jq -r .id "$work/body")
	call POST /Users "$(person ben.okafor@example.com Ben Okafor)"
	status_is 201
	calls_are 1
	holds '.userName == "ben.okafor@example.com" and .active == true and .meta.resourceType == "User"'
	ben=$(jq -r .id "$work/body")
	call GET "/Users?filter=userName+eq+%22ben.okafor%40example.com%22"
	status_is 200
	calls_are 1
	holds ".totalResults == 1 and .Resources[0].id == \"$ben\""
	call POST /Users "$(person ben.okafor@example.com Ben Twice)"
	status_is 409
	calls_are 1
	holds '.scimType == "uniqueness" and .status == "409"'

	echo
	echo "--- PATCH, default dialect"
	call PATCH "/Users/$ben" "$(patch '{"op":"Replace","path":"displayName","value":"Ben O."},{"op":"Replace","path":"emails[type eq \"work\"].value","value":"ben@example.com"},{"op":"Replace","path":"name.familyName","value":"Okafor-Lee"},{"op":"Add","path":"'$enterprise':department","value":"Sales"}')"
	status_is 200 204
	calls_are 1
	reads "$ben" ".displayName == \"Ben O.\" and .name.familyName == \"Okafor-Lee\" and .name.givenName == \"Ben\" and (.emails | map(select(.type == \"work\"))[0].value) == \"ben@example.com\" and .[\"$enterprise\"].department == \"Sales\""

	echo
	echo "--- PATCH that adds an element which is not there"
	call PATCH "/Users/$ben" "$(patch '{"op":"Add","path":"phoneNumbers[type eq \"work\"].value","value":"+1 555 0100"}')"
	status_is 200 204
	if [ "$upstream" = simulator ]; then
		calls_are 1
	else # it answers noTarget: the gateway reads, and sends the element itself
		calls_are 3
	fi
	reads "$ben" '(.phoneNumbers | map(select(.type == "work"))[0].value) == "+1 555 0100"'

	echo
	echo "--- PATCH, with aadOptscim062020"
	call PATCH "/Users/$ben?aadOptscim062020" "$(patch '{"op":"replace","path":"emails[type eq \"work\"].value","value":"ben.lee@example.com"},{"op":"replace","value":{"displayName":"Ben Lee","name.givenName":"Benjamin","'$enterprise':employeeNumber":"701984"}}')"
	status_is 200 204
	calls_are 1
	reads "$ben" ".displayName == \"Ben Lee\" and .name.givenName == \"Benjamin\" and (.emails | map(select(.type == \"work\"))[0].value) == \"ben.lee@example.com\" and .[\"$enterprise\"].employeeNumber == \"701984\" and .[\"$enterprise\"].department == \"Sales\""

	echo
	echo "--- manager"
	call PATCH "/Users/$ben" "$(patch '{"op":"Add","path":"'$enterprise':manager","value":"'"$ann"'"}')"
	status_is 200 204
	calls_are 1
	reads "$ben" ".[\"$enterprise\"].manager.value == \"$ann\""

	echo
	echo "--- a group, its member and the reference checks"
	call POST /Groups '{"schemas":["urn:ietf:params:scim:schemas:core:2.0:Group"],"externalId":"g-1","displayName":"Sales"}'
	status_is 201
	calls_are 1
	group=$(jq -r .id "$work/body")
	call PATCH "/Groups/$group" "$(patch '{"op":"Add","path":"members","value":[{"value":"'"$ann"'"},{"value":"'"$ben"'"}]}')"
	status_is 200 204
	calls_are 1
	call PATCH "/Groups/$group" "$(patch '{"op":"Remove","path":"members","value":[{"value":"'"$ben"'"}]}')"
	status_is 200 204
	calls_are 1
	call GET "/Groups?filter=id+eq+%22$group%22+and+members+eq+%22$ann%22&attributes=id"
	status_is 200
	calls_are 1
	holds '.totalResults == 1'
	call GET "/Groups?filter=id+eq+%22$group%22+and+members+eq+%22$ben%22&attributes=id"
	status_is 200
	calls_are 1
	holds '.totalResults == 0'
	call GET "/Users?filter=id+eq+%22$ben%22+and+manager+eq+%22$ann%22&attributes=id"
	status_is 200
	calls_are 1
	holds ".totalResults == 1 and .Resources[0].id == \"$ben\""

	echo
	echo "--- disable, restore"
	call PATCH "/Users/$ben" "$(patch '{"op":"Replace","path":"active","value":"False"}')"
	status_is 200 204
	calls_are 1
	call GET "/Users?filter=userName+eq+%22ben.okafor%40example.com%22"
	status_is 200
	calls_are 1
	holds '.totalResults == 1 and .Resources[0].active == false'
	call PATCH "/Users/$ben" "$(patch '{"op":"replace","path":"active","value":true}')"
	status_is 200 204
	calls_are 1
	reads "$ben" '.active == true'

	echo
	echo "--- delete"
	call DELETE "/Users/$ben"
	status_is 204
	calls_are 1
	call DELETE "/Users/$ben"
	status_is 404
	calls_are 1
	call GET "/Users/$ben"
	status_is 404
	calls_are 1
	holds ".status == \"404\" and (.detail | endswith(\"$request)\") or endswith(\"$request\"))"
}

# as_entra DIALECT SEED lets the Entra-like client run its cycles; its exit code says whether a user failed.
as_entra() {
	"$scimgate" simulate entra --url "$tenant" --token "$token" --dialect "$1" --seed "$2" --users 5 --transcript </dev/null >"$work/entra.out" || {
		cat "$work/entra.out"
		fail "the Entra-like client has something to complain of"
	}
	cat "$work/entra.out"
}

# sums compares what the trail tells of with what the upstream itself counted.
sums() {
	local trail own
	trail=$(trail_calls)
	if [ "$upstream" = simulator ]; then
		kill "${pids[0]}"
		wait "${pids[0]}" || true
		cat "$work/upstream.out"
		own=$(awk '/^Requests received/ { on = 1; next } on && !/answer/ { n += $NF } END { print n + 0 }' "$work/upstream.out")
	else
		expected_log=$trail
		within "the upstream logged the $trail requests of the trail, and not $(logged)," log_agrees
		own=$(logged)
		cat "$work/upstream.err"
	fi
	[ "$trail" -eq "$own" ] || fail "the trail tells of $trail calls, the upstream of $own"
	echo "The trail and the upstream agree on $own upstream calls."
}

if [ "$upstream" = simulator ]; then
	start_simulator generic
else
	start_scim2_server
fi
start_gateway generic
cat "$work/serve.out"
echo
echo "=== curl calls"
by_hand
printf '\n=== an Entra-like client, default dialect\n'
as_entra legacy 1
printf '\n=== an Entra-like client, with aadOptscim062020\n'
as_entra rfc 2
printf '\n=== the sums\n'
sums
printf '\n=== the end of the trail\n'
"$scimgate" audit tail --database "$work/scimgate.db" -n 12 --utc
