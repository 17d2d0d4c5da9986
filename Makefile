# make [BUILD=debug|release|sim|asan|tsan|fuzz] all lint check test run cluster bench bench-group
#                                               fuzz soak mutants clean
# Objects go to build/$(BUILD); `make run` and `make test` install what is missing first.
BUILD ?= debug
OUT   ?= build/$(BUILD)

CFLAGS_debug   := -Og -g3 -DCORDIS_SLOW_CHECKS
CFLAGS_release := -O2 -g -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection \
                  -fcf-protection=full -fPIE -ftrivial-auto-var-init=zero -fno-strict-aliasing
# For the simulator: what it is to find does not depend on hardening, how many seeds do on speed.
CFLAGS_sim     := -O2 -g1 -fno-strict-aliasing -flto=auto -DSTORE_MARKERS=100
CFLAGS_asan    := -O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined \
                  -fno-sanitize-recover=all -DCORDIS_SLOW_CHECKS
CFLAGS_tsan    := -O1 -g1 -fsanitize=thread -DCORDIS_SLOW_CHECKS
CFLAGS_fuzz := -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined \
               -fno-sanitize-recover=all -DCORDIS_SLOW_CHECKS
LDFLAGS_release := -pie -Wl,-z,relro,-z,now,-z,noexecstack
JEMALLOC_debug := -ljemalloc
JEMALLOC_release := -ljemalloc

WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
        -Wcast-qual -Wswitch-enum -Wvla -Wformat=2 -Werror=format-security -Werror
# libFuzzer is clang's, whose warnings are others; gcc decides on those.
ifeq ($(BUILD),fuzz)
CC := clang
WARN :=
endif
# SSE4.2 gives the CRC32C instruction; every x86-64 processor since 2009 has it.
ARCH := $(if $(filter x86_64,$(shell uname -m)),-msse4.2,)
override CFLAGS += -std=c11 -D_GNU_SOURCE $(ARCH) -Isrc -MMD -MP $(WARN) $(CFLAGS_$(BUILD)) $(EXTRA)
override LDFLAGS += $(LDFLAGS_$(BUILD))

# What the tests of a module link besides it: the modelled disk.
KIT_disk := $(OUT)/tests/sim/sim_disk.o

# One archive a module. A test links only the modules its own module may use,
# so a forbidden dependency is a link error even if it slips past `make lint`.
MODULES := $(shell awk '!/^\#/ && NF {print $$1}' src/LAYERS)
uses     = $(shell awk '$$1 == "$(1)" {for (i = NF; i > 1; i--) if ($$i !~ /</) printf "%s ", $$i}' src/LAYERS)
lib      = $(OUT)/lib$(1).a
closure  = $(call lib,$(1)) $(foreach m,$(call uses,$(1)),$(call closure,$(m)))

LIBS_disk   := -lleveldb -lpthread
LIBS_net    := -levent_core -lssl -lcrypto
LIBS_node   := $(LIBS_disk)
LIBS_cmd    := $(LIBS_disk) -lm
LIBS_server := $(LIBS_disk) $(LIBS_net) -lm $(JEMALLOC_$(BUILD))
LIBS_cli    := -lhiredis

TESTS   := $(patsubst %.c,$(OUT)/%,$(wildcard tests/unit/*/test_*.c))
SIMS    := $(patsubst %.c,$(OUT)/%,$(wildcard tests/sim/test_*.c))
CHECKS  := $(patsubst %.c,$(OUT)/%,$(wildcard tests/check/test_*.c))
LOADS   := $(OUT)/tests/load/group_load $(OUT)/tests/load/history_check
FUZZERS := $(patsubst %.c,$(OUT)/%,$(wildcard tests/fuzz/*_fuzz.c))
SIMKIT  := $(patsubst %.c,$(OUT)/%.o,$(filter-out tests/sim/test_%,$(wildcard tests/sim/*.c)))
# The checkers of histories: for their own tests, the simulator and the load programs.
CHECKKIT := $(patsubst %.c,$(OUT)/%.o,$(filter-out tests/check/test_%,$(wildcard tests/check/*.c)))
LOADKIT  := $(patsubst %.c,$(OUT)/%.o,$(wildcard tests/load/load_*.c))

.PHONY: all bins archives check unit unit-bins fuzz-bins load-bins lint clean run cluster test \
        bench bench-group fuzz soak mutants deps
all: bins
bins: $(OUT)/bin/cordis-server $(OUT)/bin/cordis
archives: $(foreach m,$(MODULES),$(call lib,$(m)))
unit-bins: $(TESTS) $(SIMS) $(CHECKS)
load-bins: $(LOADS)
fuzz-bins: $(FUZZERS)
deps: ; @deps/install build test

run:
	@deps/install build
	@$(MAKE) --no-print-directory BUILD=release install-bins
	@exec bin/cordis-server $(ARGS)

cluster:
	@deps/install build
	@$(MAKE) --no-print-directory BUILD=release install-bins
	@exec utils/cluster $(ARGS)

test:
	@deps/install test
	@exec tests/run

.PHONY: install-bins
install-bins: bins
	@mkdir -p bin && cp -f $(OUT)/bin/cordis-server $(OUT)/bin/cordis bin/

check: lint unit
unit: $(TESTS:=.ok) $(SIMS:=.ok) $(CHECKS:=.ok)
lint: ; @utils/lint
bench: ; @deps/install bench && exec utils/bench/run
bench-group: ; @deps/install bench && exec utils/bench/group
fuzz: ; @deps/install fuzz && exec tests/fuzz/run $(SECONDS)
soak: ; @deps/install test fuzz && exec tests/soak $(SEEDS)
mutants: ; @deps/install test && exec tests/mutants/run $(ONLY)
clean: ; rm -rf build bin

.SECONDEXPANSION:
objs = $(patsubst %.c,$(OUT)/%.o,$(wildcard src/$(1)/*.c))
$(OUT)/lib%.a: $$(call objs,$$*)
	@rm -f $@ && ar rcs $@ $^
$(OUT)/%.o: %.c
	@mkdir -p $(@D) && $(CC) $(CFLAGS) -c $< -o $@
$(TESTS): $(OUT)/%: $(OUT)/%.o $$(KIT_$$(word 3,$$(subst /, ,$$*))) \
		$$(call closure,$$(word 3,$$(subst /, ,$$*)))
	@$(CC) $(CFLAGS) $(LDFLAGS) $+ -o $@ $(LIBS_$(word 3,$(subst /, ,$*))) -lcmocka -lm
$(SIMS): $(OUT)/%: $(OUT)/%.o $(SIMKIT) $(filter-out %load_net.o,$(LOADKIT)) $(CHECKKIT) $(call closure,cmd)
	@$(CC) $(CFLAGS) $(LDFLAGS) $+ -o $@ $(filter-out -lleveldb,$(LIBS_node)) -lcmocka -lhiredis -lm
$(CHECKS): $(OUT)/%: $(OUT)/%.o $(CHECKKIT) $(call lib,base)
	@$(CC) $(CFLAGS) $(LDFLAGS) $+ -o $@ -lcmocka
$(LOADS): $(OUT)/%: $(OUT)/%.o $(LOADKIT) $(CHECKKIT) $(call lib,base)
	@$(CC) $(CFLAGS) $(LDFLAGS) $+ -o $@ -lhiredis -lpthread
$(OUT)/tests/check/%.o $(OUT)/tests/load/%.o $(OUT)/tests/sim/%.o: private EXTRA += -Itests
# Fuzzers read whatever module's bytes they like; without libFuzzer they have a main of their own.
$(OUT)/tests/fuzz/%.o: private EXTRA += $(if $(filter fuzz,$(BUILD)),,-DFUZZ_STANDALONE)
$(FUZZERS): $(OUT)/%: $(OUT)/%.o $(OUT)/src/server/peer_frame.o $(KIT_disk) $(call closure,cmd) $(call closure,net)
	@$(CC) $(CFLAGS) $(LDFLAGS) $(if $(filter fuzz,$(BUILD)),-fsanitize=fuzzer) $+ -o $@ $(LIBS_cmd) $(LIBS_net)
$(OUT)/bin/cordis-server: $(call closure,server)
	@mkdir -p $(@D) && $(CC) $(CFLAGS) $(LDFLAGS) $+ -o $@ $(LIBS_server)
$(OUT)/bin/cordis: $(call closure,cli)
	@mkdir -p $(@D) && $(CC) $(CFLAGS) $(LDFLAGS) $+ -o $@ $(LIBS_cli)
%.ok: %
	@$< && touch $@

.SECONDARY:
-include $(patsubst %.c,$(OUT)/%.d,$(wildcard src/*/*.c tests/unit/*/*.c tests/sim/*.c \
    tests/check/*.c tests/load/*.c tests/fuzz/*.c))
