# The commands of the README.

.PHONY: bench fuzz run test
run:
	@scripts/run
test:
	@scripts/test
bench:
	@cargo bench --package shepherd-edge
fuzz:
	@scripts/fuzz
