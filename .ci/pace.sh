#!/usr/bin/env bash
# pace.sh SCIMGATE [USERS] provisions users (10000) through `scimgate serve`, profile generic, in front of a simulated
# upstream that permits 200 requests per second: first with the pace set to 200 per second, then without a pace, so that
# the upstream's 429 has to teach one. It prints what the client prints, and fails when a figure is not what it has to be.
set -euo pipefail
scimgate=$(realpath "$1") users=${2:-10000}
permitted=200

. "$(dirname "$0")/stage.sh"

# figure NAME is a number that the client printed at its end.
figure() { sed -n "s/^  $1  *\([0-9.]*\).*/\1/p" "$work/entra.out"; }

# holds NAME OPERATOR LIMIT checks a figure.
holds() {
	local got
	got=$(figure "$1")
	awk -v got="$got" -v limit="$3" "BEGIN { exit !(got != \"\" && got + 0 $2 limit + 0) }" ||
		fail "$1: got ${got:-nothing}, want $2 $3"
}

# provision PACE runs the three programs, the gateway with so many requests per second; 0 is the profile's: none.
provision() {
	rm -f "$work"/*
	"$scimgate" simulate upstream --profile generic --rate "$permitted" --listen 127.0.0.1:0 --token upstream-token-for-ci \
		>"$work/upstream.out" 2>"$work/upstream.err" </dev/null &
	pids+=($!)
	within "the simulator says where it is" grep -q 'Base URL' "$work/upstream.out"
	env -i PATH="$PATH" HOME="$work" SCIMGATE_LISTEN=127.0.0.1:0 SCIMGATE_ADMIN_LISTEN=127.0.0.1:0 SCIMGATE_PROFILE=generic \
		SCIMGATE_TOKEN=entra-secret-token-for-ci SCIMGATE_UPSTREAM_TOKEN=upstream-token-for-ci \
		SCIMGATE_UPSTREAM_URL="$(awk '/Base URL/ { print $3 }' "$work/upstream.out")" SCIMGATE_UPSTREAM_RATE="$1" \
		SCIMGATE_DATABASE="$work/scimgate.db" "$scimgate" serve >"$work/serve.out" 2>"$work/serve.err" </dev/null &
	pids+=($!)
	within "the gateway says where it is" grep -q 'Trail' "$work/serve.out"
	local code=0
	"$scimgate" simulate entra --url "$(awk '/Tenant URL/ { print $3 }' "$work/serve.out")" --token entra-secret-token-for-ci \
		--users "$users" --gateway-admin "$(sed -n 's|^ *Admin *\(http[^ ]*\)/readyz.*|\1|p' "$work/serve.out")" \
		--permitted "$permitted" >"$work/entra.out" 2>"$work/entra.err" </dev/null || code=$?
	sed -n '/^All cycles together/,$p' "$work/entra.out"
	if [ "$code" -ne 0 ]; then
		head -n 40 "$work/entra.out" "$work/entra.err"
		fail "the client's exit code is $code"
	fi
	stop
	holds "users" == "$users"
	holds "failed users" == 0
	holds "answers 429" == 0
}

echo "--- the gateway paces itself at $permitted requests per second; the upstream permits $permitted"
provision "$permitted"
holds "upstream attempts answered 429" == 0
holds "share of the permitted rate" ">=" 97
holds "gateway's peak resident memory" "<=" 64

printf '\n--- no pace is set; the upstream answers 429 beyond %s requests per second\n' "$permitted"
provision 0
holds "upstream attempts answered 429" ">" 0
wasted=$(figure "upstream attempts answered 429") attempts=$(figure "upstream attempts")
awk -v wasted="$wasted" -v attempts="$attempts" 'BEGIN {
	share = 100 * wasted / attempts
	printf "%d of %d calls were wasted on 429: %.1f %%\n", wasted, attempts, share
	exit !(share < 5)
}' || fail "5 % or more of the calls were wasted"
