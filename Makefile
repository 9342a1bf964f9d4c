# The commands of the README.

.PHONY: bench run test
run:
	@scripts/run
test:
	@scripts/test
bench:
	@cargo bench --package shepherd-edge
