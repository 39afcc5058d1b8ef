/* transports.c - which transports this binary has. */
#include "exchange/exchange.h"

#include <string.h>

extern const struct exchange_ops exchange_local, exchange_shared, exchange_mpi;
#ifdef TANDEM_CUDA
extern const struct exchange_ops exchange_nccl;
#endif

const struct exchange_ops *const exchange_all[] = {
    &exchange_local,
    &exchange_shared,
    &exchange_mpi,
#ifdef TANDEM_CUDA
    &exchange_nccl,
#endif
    NULL,
};

const struct exchange_ops *exchange_find(const char *name)
{
    for (size_t i = 0; exchange_all[i]; i++)
        if (strcmp(exchange_all[i]->name, name) == 0)
            return exchange_all[i];
    return NULL;
}
