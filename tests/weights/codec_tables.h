/* Made by make_codec_tables.py: what random blocks decode to, as hashes of the f32 bits. */
static const struct blocks {
    const char *name;
    size_t columns, bytes;
    int halves[2]; /* where f16 numbers stand; -1: none */
    uint64_t hash;
} blocks[] = {
    {"Q8_0", 32, 34, {0, -1}, 0xfd23ff20110fa6cdu},
    {"Q4_0", 32, 18, {0, -1}, 0xdc7108a5276b9e2bu},
    {"Q4_1", 32, 20, {0, 2}, 0x692f8b4545281e98u},
    {"Q5_0", 32, 22, {0, -1}, 0x9a7282fd47b352f4u},
    {"Q5_1", 32, 24, {0, 2}, 0x9faa40aceefdfd9eu},
    {"Q2_K", 256, 84, {80, 82}, 0xe0293a3e9bea0b49u},
    {"Q3_K", 256, 110, {108, -1}, 0x5d12b87686334395u},
    {"Q4_K", 256, 144, {0, 2}, 0xce03c3fb661f6870u},
    {"Q5_K", 256, 176, {0, 2}, 0xad4dd3ac1a2d039fu},
    {"Q6_K", 256, 210, {208, -1}, 0x1e395a7969f33776u},
    {"IQ4_NL", 32, 18, {0, -1}, 0x7c3b1e80e722da47u},
    {"IQ4_XS", 256, 136, {0, -1}, 0xa1925265e672a263u},
    {"MXFP4", 32, 17, {-1, -1}, 0x772c2082b7422ee6u},
    {"F16", 1, 2, {0, -1}, 0x951d731bb662c555u},
    {"BF16", 1, 2, {0, -1}, 0x61d83ea0ee6e8495u},
};

static const uint64_t apart[] = {
    0x3ae1e2e905010351u, 0x374333a869a26dfcu, 0xae63ca64e447413bu,
    0x81fba2e0961748b7u, 0x615c74d93b89933au, 0xe47bb1fa86275541u,
    0x58848dc940f8bde1u, 0xefeee653ce97d2cbu, 0xefe5cc9760ad3786u,
};
