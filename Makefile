# The commands of the README.

.PHONY: bench chaos fuzz run soak test
run:
	@scripts/run
test:
	@scripts/test
# SEED=… repeats a run, SECONDS=… says for how long new seeds begin.
chaos:
	@cargo build --quiet --profile bench --package sim
	@target/release/sim chaos $(if $(SEED),--seed $(SEED) --seeds $(or $(SEEDS),1),--seeds 1000000 --seconds $(or $(SECONDS),60))
soak:
	@scripts/soak
bench:
	@cargo bench --package shepherd-edge
fuzz:
	@scripts/fuzz
