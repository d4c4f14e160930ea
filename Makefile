# What there is to do here; `make help` lists it.
GO ?= go
N ?= 20
FUZZTIME ?= 1m
SAMPLE ?= 0

.PHONY: help build images test starts lint bench soak rolling verdicts fuzz mutate generate

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

build: ## bin/gauntlet
	$(GO) build -o bin/gauntlet .

images: ## images of the reference topology, for plain docker compose; no registry is needed
	$(GO) run ./ci/images

test: ## what CI tests
	$(GO) test ./...

starts: ## 100 starts and stops on a container engine, without a leak
	CLUSTERTEST_STARTS=all $(GO) test -count=1 -timeout 30m -run TestDriver/leaks ./harness/cluster/docker/suite

lint: ## vet, staticcheck, gofmt, module files
	test -z "$$(gofmt -l .)"
	$(GO) vet ./...
	$(GO) tool -modfile=ci/tools/go.mod staticcheck ./...
	$(GO) mod verify
	$(GO) mod tidy -diff

bench: ## the figures that performance is measured by, each with its peer
	$(GO) run ./ci/bench

soak: build ## every shipped scenario and its controls N times (N=20), with a table at the end
	$(GO) run ./ci/soak -n $(N)

rolling: ## rolling restarts of every role at 500 requests a second, N times (N=20), on an idle machine
	$(GO) run ./ci/soak -n $(N) -busy=false -no-fault=false ci/rolling/*.yaml

verdicts: ## docs/verdicts.md: the soak on every driver (N=20)
	$(GO) run ./ci/soak -n $(N) -driver sandbox,docker -table docs/verdicts.md

fuzz: ## each parser for FUZZTIME (1m)
	$(GO) run ./ci/fuzz -time $(FUZZTIME)

mutate: ## what the tests of assertions/ do not notice; SAMPLE=40 tries so many changes (0: all, for hours)
	$(GO) run ./ci/mutate -sample $(SAMPLE) -- -rapid.nofailfile

generate: ## generated code and documents
	$(GO) generate ./...
