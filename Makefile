# The commands of the README.

.PHONY: test
test:
	@scripts/test
