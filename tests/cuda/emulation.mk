# The CUDA backend on a CPU, for tests: the .cu and .c files of kernels/cuda as they are, with the
# headers of tests/cuda/include in place of CUDA's and the runtime of tests/cuda/*.cpp in place of the
# libraries. Needs no CUDA. Included by the Makefile; everything lands in $(BUILD)/emu.
#   $(BUILD)/emu/tandem     the program, whose `device: cuda` is emulated
#   $(EMU_TESTS)            test programs, $(BUILD)/emu/tests/cuda/<name> and the kernel parity tests
CXX ?= g++
EMU := $(BUILD)/emu
EMU_INCLUDE := -DTANDEM_CUDA -isystem tests/cuda/include
# Emulated threads are most of what these tests cost: what this processor has, for one.
EMU_NATIVE := $(if $(X86),$(foreach f,avx2 fma,$(shell grep -qw $(f) /proc/cpuinfo 2>/dev/null && echo -m$(f))))
# Of debug information lines alone: a quarter of the time that g++ takes.
EMU_CXXFLAGS := -std=gnu++17 $(CFLAGS) -g1 $(EMU_NATIVE) -ffp-contract=off -Wall -Wextra -Wno-unknown-pragmas \
    $(if $(filter 1,$(WERROR)),-Werror) -D_GNU_SOURCE -Isrc -I. $(EMU_INCLUDE) \
    $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer)
# CUDA's own include path must not be seen: C files get the flags without it.
EMU_CFLAGS := $(filter-out -DTANDEM_CUDA,$(ALL_CFLAGS)) $(EMU_INCLUDE)
EMU_SYSTEM := $(patsubst -I%,-isystem %,$(MPI_CFLAGS) $(HDF5_CFLAGS) $(foreach p,$(SMALL),$(call pkg,$(p),cflags)))
# cuBLAS is looked for by name.
EMU_LIBS := -Wl,--export-dynamic-symbol='cublas*' $(MPI_LIBS) $(HDF5_LIBS) $(foreach p,$(SMALL),$(call pkg,$(p),libs)) -lstdc++ -ldl -lpthread -lm

# Only what sees CUDA or asks whether it is there is compiled again: the rest is that of the program.
EMU_C := $(sort $(shell grep -l 'TANDEM_CUDA' $(SRC)) $(wildcard src/exchange/nccl*.c) $(wildcard kernels/cuda/*.c))
EMU_OBJ := $(patsubst %.c,$(EMU)/%.o,$(EMU_C)) \
    $(patsubst %.cu,$(EMU)/%.cu.o,$(wildcard kernels/cuda/*.cu)) \
    $(patsubst %.cpp,$(EMU)/%.o,$(wildcard tests/cuda/*.cpp))
EMU_SHARED := $(patsubst %.c,$(BUILD)/%.o,$(filter-out $(EMU_C),$(SRC)))
EMU_MAIN := $(if $(wildcard tests/cuda/*.c),$(shell grep -lE '^int main\b' tests/cuda/*.c))
EMU_TESTS := $(EMU_MAIN:%.c=$(EMU)/%) $(EMU)/tests/kernels/parity
# The parity program, and its helpers, which the programs here use too.
EMU_HELPERS := $(call helpers,tests/kernels/parity.c)
EMU_PARITY := $(BUILD)/tests/kernels/parity.o $(EMU_HELPERS)

# Headers of -isystem are in no list of dependencies.
EMU_HEADERS := $(wildcard tests/cuda/include/*.h)
$(EMU)/%.cu.o: %.cu $(EMU_HEADERS) $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,EMU   $<)$(CXX) $(EMU_CXXFLAGS) -x c++ -MMD -MP -c -o $@ $<

$(EMU)/%.o: %.cpp $(EMU_HEADERS) $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,EMU   $<)$(CXX) $(EMU_CXXFLAGS) $(EMU_SYSTEM) -MMD -MP -c -o $@ $<

$(EMU)/%.o: %.c $(EMU_HEADERS) $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,EMU   $<)$(CC) $(EMU_CFLAGS) $(EMU_SYSTEM) -MMD -MP -c -o $@ $<

$(EMU)/libtandem_emu.a: $(EMU_OBJ) $(EMU_SHARED)
	@rm -f $@.new && ar qcs $@.new $^ && mv $@.new $@

$(EMU)/tandem: $(BUILD)/src/main.o $(EMU)/libtandem_emu.a
	$(call say,LINK  $@)$(CC) $(CFLAGS) -fopenmp $(LDFLAGS) -o $@ $^ $(EMU_LIBS)

$(EMU)/tests/kernels/parity: $(EMU_PARITY) $(EMU)/libtandem_emu.a
	@mkdir -p $(@D)
	$(call say,LINK  $@)$(CC) $(CFLAGS) -fopenmp $(LDFLAGS) -o $@ $^ -lcmocka $(EMU_LIBS)

# Objects go in front of the library, whose kernels are then left out where counted ones are there.
GPU_BENCH_PARTS := tests/cuda/gpu_peak.cu.o tests/cuda/gpu_bench_attention.o tests/cuda/gpu_bench_experts.o
$(EMU)/tests/cuda/gpu_bench: $(addprefix $(EMU)/,$(GPU_BENCH_PARTS))
$(EMU_MAIN:%.c=$(EMU)/%): $(EMU)/%: $(EMU)/%.o $(EMU_HELPERS) $(EMU)/libtandem_emu.a
	$(call say,LINK  $@)$(CC) $(CFLAGS) -fopenmp $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) -lcmocka $(EMU_LIBS)

# The same kernels, compiled so that they say every access to memory (counted.cpp), quickly: they run less than
# their compiler does.
COUNTED_CU := $(patsubst %.cu,$(EMU)/counted/%.cu.o,$(wildcard kernels/cuda/*.cu))
$(COUNTED_CU): $(EMU)/counted/%.cu.o: %.cu $(EMU_HEADERS) $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,EMU   $< (counted))$(CXX) $(EMU_CXXFLAGS) -O1 -g0 -fsanitize=thread -Wno-tsan -x c++ -MMD -MP -c -o $@ $<

ifeq ($(SAN),)
$(EMU)/tests/cuda/traffic: $(COUNTED_CU)
endif
$(EMU)/counted/tandem: $(BUILD)/src/main.o $(COUNTED_CU) $(EMU)/libtandem_emu.a
	$(call say,LINK  $@)$(CC) $(CFLAGS) -fopenmp $(LDFLAGS) -o $@ $^ $(EMU_LIBS)

# The program with one event of the exchange forgotten: tests/cuda/job.sh sees that it shows.
EMU_PLANTED := $(addprefix $(EMU)/planted/,dispatch collect receive reply)
$(EMU)/planted/%.c: src/exchange/nccl.c
	@mkdir -p $(@D)
	@sed '/nccl_$*(struct/,/^}/{/stream_wait.*\(written\|received\)/d}' $< > $@
	@! cmp -s $< $@

$(EMU)/planted/%.o: $(EMU)/planted/%.c $(wildcard src/exchange/*.h kernels/*.h kernels/cuda/*.h) $(BUILD)/flags
	$(call say,EMU   $<)$(CC) $(EMU_CFLAGS) $(EMU_SYSTEM) -c -o $@ $<

$(EMU_PLANTED): %: %.o $(BUILD)/src/main.o $(EMU)/libtandem_emu.a
	$(call say,LINK  $@)$(CC) $(CFLAGS) -fopenmp $(LDFLAGS) -o $@ $^ $(EMU_LIBS)

# The avx512 backend on a processor without AVX-512: its sources with tests/avx512 in place of the
# compiler's header. Every download of every parity case must be what plain gives, bit for bit.
EMU_AVX512 := $(patsubst kernels/cpu/fast/%.c,$(EMU)/avx512/%.o,$(wildcard kernels/cpu/fast/*avx512.c))
$(EMU_AVX512): $(EMU)/avx512/%.o: kernels/cpu/fast/%.c tests/avx512/immintrin.h $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,EMU   $<)$(CC) $(ALL_CFLAGS) -O1 -Wno-psabi -isystem tests/avx512 -MMD -MP -c -o $@ $<

$(EMU)/avx512/parity: $(BUILD)/tests/kernels/parity.o $(call helpers,tests/kernels/parity.c) $(EMU_AVX512) $(BUILD)/libtandem.a
	$(call say,LINK  $@)$(CC) $(CFLAGS) -fopenmp $(LDFLAGS) -o $@ $^ -lcmocka $(LIBS)

# The same as quickly as it compiles: tests/kernels/avx512.sh runs it in every `make test`.
EMU_AVX512_QUICK := $(EMU_AVX512:$(EMU)/avx512/%=$(EMU)/avx512/quick/%)
$(EMU_AVX512_QUICK): $(EMU)/avx512/quick/%.o: kernels/cpu/fast/%.c tests/avx512/immintrin.h $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,EMU   $< (quickly))$(CC) $(ALL_CFLAGS) -O0 -g0 -Wno-psabi -isystem tests/avx512 -MMD -MP -c -o $@ $<

$(EMU)/avx512/quick/parity: $(BUILD)/tests/kernels/parity.o $(call helpers,tests/kernels/parity.c) $(EMU_AVX512_QUICK) $(BUILD)/libtandem.a
	$(call say,LINK  $@)$(CC) $(CFLAGS) -fopenmp $(LDFLAGS) -o $@ $^ -lcmocka $(LIBS)

test-avx512: $(EMU)/avx512/parity ## the kernels of AVX-512, emulated where the processor has none
	@$(if $(X86),OMP_WAIT_POLICY=passive $< plain avx512,echo "SKIPPED: the kernels of AVX-512 are for x86-64")
.PHONY: test-avx512

emu-tests: $(EMU_TESTS) $(EMU)/tandem $(EMU_PLANTED) $(if $(SAN),,$(EMU)/counted/tandem $(if $(X86),$(EMU)/avx512/quick/parity))
.PHONY: emu-tests

-include $(EMU_OBJ:.o=.d) $(EMU_AVX512:.o=.d) $(EMU_AVX512_QUICK:.o=.d) $(COUNTED_CU:.o=.d) $(EMU_MAIN:%.c=$(EMU)/%.d)

# For a real GPU: parity, edges, then times; tests/cuda/gpu.sh runs them. Not part of any test run.
ifeq ($(USE_CUDA),1)
GPU_BENCH := $(BUILD)/tests/cuda/gpu_bench
# Several ranks on one GPU, without NCCL (tests/cuda/one_gpu.cu): REAL=1 tests/cuda/job.sh.
$(BUILD)/tests/cuda/one_gpu.so: tests/cuda/one_gpu.cu $(CUDA_BUILD)/flags
	@mkdir -p $(@D)
	$(call say,NVCC  $<)$(NVCC) -std=c++17 -O2 $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) \
	    -shared -Xcompiler -fPIC -cudart shared $(MPI_CFLAGS) -o $@ $<
GPU_TESTS := $(addprefix $(BUILD)/tests/cuda/,edges limits experts)
$(GPU_BENCH): $(foreach o,$(GPU_BENCH_PARTS),$(if $(filter %.cu.o,$(o)),$(CUDA_BUILD),$(BUILD))/$(o))
$(GPU_BENCH) $(GPU_TESTS): %: %.o $(EMU_HELPERS) $(BUILD)/libtandem.a
	$(call say,LINK  $@)$(CC) $(CFLAGS) -fopenmp $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) -lcmocka $(LIBS)
gpu-tests: all $(GPU_BENCH) $(GPU_TESTS) $(BUILD)/tests/cuda/one_gpu.so
.PHONY: gpu-tests
endif
