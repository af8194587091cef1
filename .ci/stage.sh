# stage.sh is what the scripts beside it share: a folder, the programs they start, and waiting for these. Source it with
# $scimgate set.
work=$(mktemp -d)
pids=()
token=entra-secret-token-for-ci
upstream_token=upstream-token-for-ci

# stop ends what was started, by its pid.
stop() {
	local pid
	for pid in "${pids[@]}"; do
		kill "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	pids=()
}

# finish says what the programs said last when something went wrong.
finish() {
	local code=$? name
	stop
	if [ "$code" -ne 0 ]; then
		for name in "$work"/*.err; do
			[ -s "$name" ] || continue
			echo "--- what $(basename "$name" .err) said last"
			tail -n 20 "$name"
		done
	fi
	rm -rf "$work"
}
trap finish EXIT

fail() {
	printf 'NOT AS EXPECTED: %s\n' "$*"
	exit 1
}

# within TEXT COMMAND... tries a command for 15 s.
within() {
	local what=$1
	shift
	for _ in {1..150}; do
		if "$@" >/dev/null 2>&1; then return; fi
		sleep 0.1
	done
	fail "$what within 15 s"
}

# background NAME COMMAND... starts a program; what it says is in NAME.out and NAME.err.
background() {
	local name=$1
	shift
	: >"$work/$name.out" # before it starts: nobody is to read what another run of it said
	"$@" >"$work/$name.out" 2>"$work/$name.err" </dev/null &
	pids+=($!)
}

# start_simulator PROFILE [FLAG...] starts an upstream without users, and says where it is in upstream_url.
start_simulator() {
	local profile=$1
	shift
	background upstream "$scimgate" simulate upstream --profile "$profile" --listen 127.0.0.1:0 --token "$upstream_token" "$@"
	within "the simulator says where it is" grep -q 'Base URL' "$work/upstream.out"
	upstream_url=$(awk '/Base URL/ { print $3 }' "$work/upstream.out")
}

# start_gateway PROFILE [NAME=VALUE...] starts `scimgate serve` from the environment alone, on an empty store in front of
# upstream_url, and says where it is in tenant and admin.
start_gateway() {
	local profile=$1
	shift
	rm -rf "$work"/scimgate.db*
	background serve env -i PATH="$PATH" HOME="$work" \
		SCIMGATE_LISTEN=127.0.0.1:0 SCIMGATE_ADMIN_LISTEN=127.0.0.1:0 SCIMGATE_PROFILE="$profile" SCIMGATE_TOKEN="$token" \
		SCIMGATE_UPSTREAM_URL="$upstream_url" SCIMGATE_UPSTREAM_TOKEN="$upstream_token" SCIMGATE_DATABASE="$work/scimgate.db" \
		"$@" "$scimgate" serve
	within "the gateway says where it is" grep -q 'Tenant URL' "$work/serve.out"
	tenant=$(awk '/Tenant URL/ { print $3 }' "$work/serve.out")
	admin=$(sed -n 's|^ *Admin *\(http[^ ]*\)/readyz.*|\1|p' "$work/serve.out")
	within "the gateway is ready" "$scimgate" health --url "$admin"
}
