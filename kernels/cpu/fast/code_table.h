/* code_table.h - tables from codes of 8 bits to bf16, as constants. Internal to kernels/cpu/fast. */
#ifndef TANDEM_KERNELS_CPU_FAST_CODE_TABLE_H
#define TANDEM_KERNELS_CPU_FAST_CODE_TABLE_H

#include <stdint.h>

/* Low and high bytes of the bf16 of each code without its sign (bit 7): CODE_TABLE(BITS), where BITS(e, m)
 * is that of code 8 e + m. */
struct code_table {
    uint8_t low[128], high[128];
};

#define CODE_EIGHT(BYTE, BITS, e)                                                                  \
    BYTE(BITS(e, 0)), BYTE(BITS(e, 1)), BYTE(BITS(e, 2)), BYTE(BITS(e, 3)), BYTE(BITS(e, 4)),      \
        BYTE(BITS(e, 5)), BYTE(BITS(e, 6)), BYTE(BITS(e, 7))
#define CODE_ALL(BYTE, BITS)                                                                       \
    CODE_EIGHT(BYTE, BITS, 0), CODE_EIGHT(BYTE, BITS, 1), CODE_EIGHT(BYTE, BITS, 2),               \
        CODE_EIGHT(BYTE, BITS, 3), CODE_EIGHT(BYTE, BITS, 4), CODE_EIGHT(BYTE, BITS, 5),           \
        CODE_EIGHT(BYTE, BITS, 6), CODE_EIGHT(BYTE, BITS, 7), CODE_EIGHT(BYTE, BITS, 8),           \
        CODE_EIGHT(BYTE, BITS, 9), CODE_EIGHT(BYTE, BITS, 10), CODE_EIGHT(BYTE, BITS, 11),         \
        CODE_EIGHT(BYTE, BITS, 12), CODE_EIGHT(BYTE, BITS, 13), CODE_EIGHT(BYTE, BITS, 14),        \
        CODE_EIGHT(BYTE, BITS, 15)
#define CODE_LOW(v)  (uint8_t)((v)&0xff)
#define CODE_HIGH(v) (uint8_t)((v) >> 8)
#define CODE_TABLE(BITS)                                                                           \
    {                                                                                              \
        {CODE_ALL(CODE_LOW, BITS)},                                                                \
        {                                                                                          \
            CODE_ALL(CODE_HIGH, BITS)                                                              \
        }                                                                                          \
    }

#endif
