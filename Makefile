# The commands of the README.

.PHONY: bench chaos faults fuzz run soak test
run:
	@scripts/run
test:
	@scripts/test
# SEED=… repeats a run, SECONDS=… says for how long new seeds begin.
chaos:
	@scripts/sim chaos $(if $(SEED),--seed $(SEED) --seeds $(or $(SEEDS),1),--seeds 1000000 --seconds $(or $(SECONDS),60))
# All tests with faults between the edge and real stores; make test has most of them.
faults:
	@. scripts/env && scripts/build && cargo build --quiet --package sim && node --test tests/faults/*.test.mjs
soak:
	@scripts/soak
# Some 15 minutes; QUICK=1 a short look, JSON=… keeps the numbers.
bench:
	@scripts/bench $(if $(QUICK),--quick) $(if $(JSON),--json=$(JSON))
fuzz:
	@scripts/fuzz
