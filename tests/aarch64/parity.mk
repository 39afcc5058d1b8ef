# parity.mk - the tests of the kernels for 64-bit ARM, by a cross compiler, linked statically: kernels and what
# they need of src/base, nothing else.
CC := aarch64-linux-gnu-gcc
OUT := $(BUILD)/aarch64
SRC := $(wildcard kernels/*.c kernels/weights/*.c kernels/cpu/*.c kernels/cpu/*/*.c) \
    $(filter-out %/registry.c %/seats.c %/series.c %/shares.c %/team.c,$(wildcard tests/kernels/*.c)) \
    $(addprefix src/base/,clock.c dtype.c err.c hash.c host_memory.c median.c mem.c philox.c pool.c utf8.c)
OBJ := $(SRC:%.c=$(OUT)/%.o)
FLAGS := -std=gnu17 -O2 -fopenmp -ffp-contract=off -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Werror \
    -D_GNU_SOURCE -Isrc -I. -isystem tests/aarch64

$(OUT)/parity: $(OBJ)
	@$(CC) -fopenmp -static -o $@ $^ -lpthread -lm
$(OUT)/%.o: %.c tests/aarch64/parity.mk
	@mkdir -p $(@D)
	@$(CC) $(FLAGS) -MMD -MP -c -o $@ $<

-include $(OBJ:.o=.d)
