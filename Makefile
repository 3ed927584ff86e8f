# What people and .ci/run type. Everything is ordinary cargo; nothing here hides a flag that matters.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test bench-micro soak kafka-tls kills scale-out simulate simulate-some lint deny advisories sbom dist reproducible \
  fuzz book chart files up down down-volumes sanitize generate fresh ci

## help       lists these targets
help:
	@sed -n 's/^## /make /p' $(MAKEFILE_LIST)

## run        builds and runs pipelines/iot.yaml: simulated sensors, anomalies on the screen (Ctrl-C stops)
run:
	cargo run --locked -- run pipelines/iot.yaml

## test       runs all tests; starts real Kafka and PostgreSQL servers for them
test:
	cargo test --workspace --exclude pipeline-simulation --locked

## bench-micro  measures the parts of a row's way: decoding, look-up, scores, `when:`, COPY, a commit, Kafka (starts one)
bench-micro:
	cargo bench -p pipeline-micro --locked

## soak       runs pipelines/iot.yaml of the release build at 10,000 rows/s for 10 minutes, and judges its memory
soak:
	cargo build --release --locked --package pipeline-cli --features kafka-tls --bin pipeline
	tests/bench/soak/run target/release/pipeline

## kafka-tls  tests Kafka through TLS, with certificates and passwords; builds OpenSSL, which takes minutes
kafka-tls:
	# Of the whole workspace, so that what `make test` has built is not built again.
	cargo test --workspace --exclude pipeline-simulation --locked --features pipeline-kafka/tls --test tls

## kills      kills the binary 200 times over 2,000,000 rows, into PostgreSQL and into SQLite (many minutes)
kills:
	PIPELINE_TEST_KILLS=200 PIPELINE_TEST_KILL_ROWS=2000000 \
	cargo test -p pipeline-cli --test end_to_end --release --locked -- killed:: --nocapture --test-threads=1

## simulate   runs the engine in a simulated world where everything fails, 10,000 seeds
simulate:
	cargo run -p pipeline-simulation --release --locked -- --seeds 10000

## simulate-some  the seeds that every change must pass, and the deliberate bugs they must find
simulate-some:
	cargo test -p pipeline-simulation --locked

## scale-out  three processes on Kafka and PostgreSQL; for five minutes they are killed, stopped and started at random
scale-out:
	PIPELINE_TEST_SCALE_SECONDS=300 cargo test -p pipeline-cli --test end_to_end --locked three_processes_are_as_one -- --nocapture

## lint       checks formatting, and lints with warnings as errors
lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

## deny       checks licences, banned crates and registries (deny.toml; needs cargo-deny)
deny:
	cargo deny --locked check --hide-inclusion-graph licenses bans sources

## advisories asks the advisory database about what Cargo.lock names (deny.toml; needs cargo-deny and the network)
advisories:
	cargo deny --locked check --hide-inclusion-graph advisories

## sbom       writes what a released binary is made of, as CycloneDX, to target/sbom.cdx.json (needs cargo-cyclonedx)
sbom:
	SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} cargo cyclonedx \
	  --manifest-path engine/cli/Cargo.toml --features kafka-tls --format json --spec-version 1.5 --no-build-deps \
	  --override-filename pipeline-sbom --quiet
	mkdir -p target
	sed 's#$(CURDIR)#/pipeline#g' engine/cli/pipeline-sbom.json > target/sbom.cdx.json
	@# It writes one beside each crate of the workspace.
	find engine plugins tests -name pipeline-sbom.json -delete

## reproducible  builds a small crate in two folders at two times, and compares the bytes
reproducible:
	.ci/reproducible check

## fuzz       gives every target of engine/fuzz made-up inputs for 5 seconds each; .ci/fuzz says what else it can do
fuzz:
	.ci/fuzz

## book       writes the documentation as a book to target/book (needs mdbook)
book:
	mdbook build docs

## sanitize   runs the tests of the boundary to plugins under sanitizers and valgrind (minutes)
sanitize:
	.ci/sanitize

## generate   writes the generated files: schemas/, docs/stages/ and docs/metrics.md
generate:
	cargo run --locked -- schema --out schemas --docs docs/stages --metrics docs/metrics.md

## fresh      fails if a generated file is not what `make generate` would write
fresh:
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	cargo run --locked -- schema --out "$$folder/schemas" --docs "$$folder/docs/stages" \
	  --metrics "$$folder/docs/metrics.md" && \
	diff -r schemas "$$folder/schemas" && diff -r docs/stages "$$folder/docs/stages" && \
	diff docs/metrics.md "$$folder/docs/metrics.md" || \
	{ echo 'generated files are stale: run `make generate` and commit what it writes' >&2; exit 1; }

compose = docker compose --file docker/compose.yaml

## up         builds and starts everything in containers: Kafka, PostgreSQL, simulator, pipeline, Prometheus, Grafana
up: docker/.env
	$(compose) up --build --detach --wait

# Made once: the passwords in it are those of the volumes.
docker/.env:
	umask 077 && docker/new-env > $@

## down       stops the containers; what they have stored stays
down:
	$(compose) --profile '*' down

## down-volumes  stops the containers and deletes what they have stored
down-volumes:
	$(compose) --profile '*' down --volumes

## dist       makes the files of a release in dist/: the archive, and the Debian package
dist:
	.ci/reproducible build --release --package pipeline-cli --features kafka-tls --bin pipeline
	.ci/package target/release/pipeline dist

## chart      checks the Helm chart against the schemas of Kubernetes
chart:
	.ci/chart

## files      checks workflows, scripts and the Dockerfile with their linters
files:
	.ci/files

## ci         does all that a change must pass, as the server does it
ci:
	.ci/run
