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
	start_simulator generic --rate "$permitted"
	start_gateway generic SCIMGATE_UPSTREAM_RATE="$1"
	local code=0
	"$scimgate" simulate entra --url "$tenant" --token "$token" --users "$users" --gateway-admin "$admin" \
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
