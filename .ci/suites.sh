#!/usr/bin/env bash
# suites.sh SCIMGATE TOOLS [SUITE...] runs suites that nobody here wrote against `scimgate serve`, profile generic, in front
# of `scimgate simulate upstream`, each on an empty store: scim2-tester through scim2-cli, scim-sanity, and Microsoft's
# Postman collection through newman. TOOLS is a virtual environment of Python; what is missing there is installed, newman
# beside it. What a suite finds must stand in conformance/expected/SUITE.json with its reason, and what stands there must be
# found. The collection is read from ../shared/vectors beside the repository; without it newman is skipped, but in CI.
set -euo pipefail
export LC_ALL=C.UTF-8
scimgate=$(realpath "$1") tools=$(realpath "$2")
shift 2
suites=("$@")
[ $# -gt 0 ] || suites=(scim2-tester scim-sanity newman)
cd "$(dirname "$0")/.."
. .ci/stage.sh

python_packages=(scim2-cli==0.6.0 scim2-client==0.13.2 scim2-models==0.12.3 scim2-tester==0.5.2 scim-sanity==0.7.4)
newman_package=newman@6.2.2
newman=$tools/npm/node_modules/.bin/newman
collection=../shared/vectors/ms-postman.collection.json

# A suite that stops half-way finds nothing either: so many checks must pass.
declare -A at_least=([scim2-tester]=130 [scim-sanity]=28 [newman]=97)

# install brings in what a suite needs, by package name.
install() {
	case $1 in
	newman) [ -x "$newman" ] || npm install --loglevel=error --no-fund --no-audit --prefix "$tools/npm" "$newman_package" </dev/null >/dev/null ;;
	*) "$tools/bin/pip" install -q --disable-pip-version-check "${python_packages[@]}" </dev/null ;;
	esac
}

# suite COMMAND... runs a suite into report. Its exit code tells no more than the report does, but that it hung.
suite() {
	local code=0
	timeout 120 "$@" >"$work/report" 2>"$work/suite.err" </dev/null || code=$?
	[ "$code" -ne 124 ] || fail "the suite ends within 120 s"
}

# Each suite leaves lines in results: passed, failed or skipped, a tab, and what was checked.

# scim2-tester prints "STATUS check", and below it the reason. Only what is in the reason tells the cases of a check apart,
# so random identifiers in it are made one.
run_scim2_tester() {
	SCIM_CLI_HEADERS="Authorization: Bearer $token" suite "$tools/bin/scim2" --url "$tenant" test
	awk '
		/^(SUCCESS|COMPLIANT|ACCEPTABLE|DEVIATION|ERROR|CRITICAL|SKIPPED) / {
			if (check != "") print verdict "\t" check
			verdict = $1 ~ /^(SUCCESS|COMPLIANT|ACCEPTABLE)$/ ? "passed" : $1 == "SKIPPED" ? "skipped" : "failed"
			check = $2
			next
		}
		/^  / && check != "" { sub(/^ */, ""); sub(/\\n.*/, ""); print verdict "\t" check ": " $0; check = "" }
		END { if (check != "") print verdict "\t" check }
	' "$work/report" | sed -E 's/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/UUID/g' >"$work/results"
}

run_scim_sanity() {
	suite "$tools/bin/scim-sanity" probe "$tenant" --token "$token" --i-accept-side-effects --user-domain example.com --json-output
	jq -r '.results[] | [({PASS: "passed", SKIP: "skipped"}[.status | ascii_upcase] // "failed"), .name, .message // empty] |
		if .[0] == "failed" then "\(.[0])\t\(.[1]): \(.[2])" else "\(.[0])\t\(.[1])" end' "$work/report" >"$work/results"
}

# The folder "Get Token" belongs to Microsoft's own server: it is the one that is left out.
run_newman() {
	local folder address=${tenant#http://}
	local folders=()
	while read -r folder; do
		folders+=(--folder "$folder")
	done < <(jq -r '.item[] | select(.item and .name != "Get Token") | .name' "$collection")
	address=${address%%/*}
	suite "$newman" run "$collection" --reporters json --reporter-json-export "$work/newman.json" \
		--env-var Protocol=http --env-var Server="${address%:*}" --env-var Port=":${address##*:}" --env-var Api=scim/v2 \
		--env-var token="$token" "${folders[@]}"
	jq -r '([.collection.item[] | .name as $f | .item[]? | {key: .id, value: $f}] | from_entries) as $folder |
		.run.executions[] | .item as $i | .assertions[]? |
		(if .error then "failed" else "passed" end) + "\t\($folder[$i.id]) / \($i.name) / \(.assertion)"' "$work/newman.json" |
		awk -F '\t' '{ n[$2]++; print $0 (n[$2] > 1 ? " (" n[$2] ")" : "") }' >"$work/results"
}

# counted VERDICT counts results.
counted() { awk -F '\t' -v want="$1" '$1 == want { n++ } END { print n + 0 }' "$work/results"; }

# judge SUITE holds the results against the expected divergences, both ways. It is false when they differ.
judge() {
	local expected=conformance/expected/$1.json id reason good=true
	jq -e 'type == "object" and all(.[]; type == "string" and length > 20)' "$expected" >/dev/null || fail "every divergence in $expected has a reason"
	awk -F '\t' '$1 == "failed" { print $2 }' "$work/results" | sort >"$work/failed"
	jq -r 'keys[]' "$expected" | sort >"$work/expected"
	printf '%s: %d passed, %d failed, %d skipped, %d in all\n' "$1" "$(counted passed)" "$(counted failed)" "$(counted skipped)" "$(wc -l <"$work/results")"
	while read -r id; do
		reason=$(jq -r --arg id "$id" '.[$id] // "NOT EXPECTED"' "$expected")
		printf '  failed: %s\n    %s\n' "$id" "$reason"
	done <"$work/failed"
	awk -F '\t' '$1 == "skipped" { print "  skipped: " $2 }' "$work/results"
	comm -13 "$work/failed" "$work/expected" | sed 's|^|  NOT FAILED, THOUGH EXPECTED: |'
	cmp -s "$work/failed" "$work/expected" || good=false
	if [ "$(counted passed)" -lt "${at_least[$1]}" ]; then
		printf '  PASSED ARE FEWER THAN %d; the end of its report:\n' "${at_least[$1]}"
		tail -n 20 "$work/report"
		good=false
	fi
	$good
}

unexpected=()
for name in "${suites[@]}"; do
	[ -n "${at_least[$name]-}" ] || fail "$name is one of ${!at_least[*]}"
	if [ "$name" = newman ] && [ ! -f "$collection" ]; then
		[ "${CI:-}" != true ] || fail "in CI $collection is there"
		echo "newman: not run: $collection is not there"
		continue
	fi
	install "$name"
	start_simulator generic
	start_gateway generic
	: >"$work/results"
	"run_${name//-/_}" || echo "$name: its report cannot be read"
	stop
	judge "$name" || unexpected+=("$name")
done
[ ${#unexpected[@]} -eq 0 ] || fail "conformance/expected tells of every divergence, and of no other: ${unexpected[*]}"
