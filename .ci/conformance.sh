#!/usr/bin/env bash
# conformance.sh SCIMGATE runs the suite of `scimgate conformance` through `scimgate serve` in front of `scimgate simulate
# upstream`, under profiles generic and bluejeans, and prints what the gateway advertises under both. What fails or is
# unsupported must stand in conformance/expected/gateway-PROFILE.json with its reason, and what stands there must not pass.
# Then it prints the table of `scimgate conformance proof`.
set -euo pipefail
scimgate=$(realpath "$1")
cd "$(dirname "$0")/.."
. .ci/stage.sh

# advertised prints what /ServiceProviderConfig says is supported.
advertised() {
	curl -s -S --fail --max-time 30 -o "$work/provider" "$tenant/ServiceProviderConfig" \
		-H "Authorization: Bearer $token" -H 'Accept: application/scim+json' </dev/null
	jq -c '{patch: .patch.supported, bulk: .bulk.supported, filter: .filter.supported, sort: .sort.supported, etag: .etag.supported, pagination}' "$work/provider"
	jq -e '[.patch, .bulk, .filter, .sort, .etag | .supported == true] | all' "$work/provider" >/dev/null || fail "patch, bulk, filter, sort and etag are supported"
}

# suite SET EXPECTED prints the closing line of the suite's report, and all of it when something is unexpected.
suite() {
	printf 'set %s: ' "$1"
	timeout 300 "$scimgate" conformance --url "$tenant" --token "$token" --set "$1" --strict --expect "$2" \
		>"$work/report" 2>"$work/suite.err" </dev/null || {
		printf '\n'
		cat "$work/report"
		fail "the suite has no unexpected result"
	}
	tail -n 1 "$work/report"
}

for profile in generic bluejeans; do
	echo "--- through the gateway, profile $profile"
	start_simulator "$profile"
	start_gateway "$profile" SCIMGATE_UPSTREAM_RATE=1000 # the pace of bluejeans would take minutes, and change no answer
	advertised
	suite rfc "conformance/expected/gateway-$profile.json"
	suite entra "conformance/expected/gateway-$profile.json"
	stop
done

echo "--- scimgate conformance proof"
timeout 300 "$scimgate" conformance proof </dev/null
