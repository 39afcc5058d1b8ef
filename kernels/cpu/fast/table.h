/* table.h - the entries of struct isa that tile_body.h and rows_body.h define. */
#ifndef TANDEM_KERNELS_CPU_FAST_TABLE_H
#define TANDEM_KERNELS_CPU_FAST_TABLE_H

#define ISA_BODIES                                                                                 \
    .pack_row = pack_row, .to_integers = to_integers, .sum_row = sum_row, .swiglu = swiglu,        \
    .add = add, .store = store, .turn = turn, .softmax = softmax, .merge = merge,                  \
    .finish = finish, .rotate = rotate, .residual = residual, .norm = norm, .dots = dots,          \
    .encode = encode, .decode = decode, .convert = convert, .most = most_of, .mass = mass,         \
    .spread = spread, .collect = collect, .above = above, .masses = masses, .near = near,          \
    .find = find

#endif
