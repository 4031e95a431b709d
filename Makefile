# Everything runs without cgo, except the race detector, which needs it.
export CGO_ENABLED ?= 0

# Packages in which threads meet.
RACE = ./cluster/... ./store/... ./smtpd/... ./deliver/... ./admin/... ./member/...
FUZZTIME ?= 30s
E2E = ./internal/e2e/...

.PHONY: build test race lint e2e bench microbench fuzz audit demo sim soak torture torture-ci controls ci

build:
	go build -o bin/mailraft ./cmd/mailraft

test:
	go test ./...

race:
	CGO_ENABLED=1 go test -race -timeout 10m $(RACE)

lint:
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "not formatted:"; echo "$$files"; exit 1; fi
	go vet -tags e2e ./...
	go tool staticcheck -tags e2e ./...

# Scenarios with the real binary, swaks and Dovecot (LMTP, Sieve, IMAP).
e2e:
	go test -tags e2e -v -count=1 -parallel 5 -timeout 15m $(E2E)

# Members in virtual time while disks, networks and clocks fail; for longer:
# make soak SOAKTIME=8h. A seed that fails says how to run it again.
SEEDS ?= 20
SOAKTIME ?= 1h

sim:
	SIM_SEEDS=$(SEEDS) go test -count=1 -timeout 15m -v -run 'TestSeeds$$' ./internal/simulation

# Real processes under load while members, disks, links and clocks fail: ten
# minutes of a new seed. As root links are cut and disks filled, too.
TORTURETIME ?= 10m
TORTURETAGS = testclock,testdisk

torture:
	go build -tags $(TORTURETAGS) -o bin/mailraft-torture ./cmd/mailraft
	bin/mailraft-torture torture --time $(TORTURETIME)

# A new seed for a while, and the beginning of each seed that found something.
torture-ci:
	go build -tags $(TORTURETAGS) -o bin/mailraft-torture ./cmd/mailraft
	timeout 240 bin/mailraft-torture torture --time 40s
	for seed in 231; do timeout 200 bin/mailraft-torture torture --seed $$seed --time 10s || exit 1; done

# Guards that a build tag takes away: the test that is for one must fail then.
controls:
	go test -tags controls -count=1 -timeout 15m -run 'TestControls$$' .

soak:
	SIM_TIME=$(SOAKTIME) SIM_FIRST=$$(date +%s) go test -count=1 -timeout 0 -v -run 'TestSeeds$$' ./internal/simulation

# How fast mail is taken, beside Postfix, JetStream and RabbitMQ: writes
# docs/benchmarks.md. As root, half an hour.
bench: build bin/rival
	[ -x /usr/sbin/postconf ] || RUNLEVEL=1 apt-get install -qy --no-install-recommends postfix
	[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || RUNLEVEL=1 apt-get install -qy --no-install-recommends rabbitmq-server
	command -v strace >/dev/null || apt-get install -qy --no-install-recommends strace
	bin/mailraft bench report --rival bin/rival

# What mailraft is compared with; a module of its own, so that it is no dependency.
bin/rival: $(wildcard internal/bench/rival/*)
	go build -C internal/bench/rival -o ../../../bin/rival .

microbench:
	go test -run '^$$' -bench . -benchmem ./...

# Every fuzz target of the tree, one after the other.
fuzz:
	@set -e; grep -rl --include='*_test.go' '^func Fuzz' . | sort | while read -r f; do \
		for t in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$f"); do \
			echo "$$t in $$(dirname "$$f")"; \
			go test -run '^$$' -fuzz "^$$t\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$f")" </dev/null; \
		done; \
	done

# What needs the network: sums of all modules, known vulnerabilities in what is called.
audit:
	go mod verify
	go run golang.org/x/vuln/cmd/govulncheck@latest ./...

demo:
	go run ./cmd/mailraft demo

ci:
	.ci/run
