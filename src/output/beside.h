/* beside.h - the prompts' own columns (data/kept.h), copied into a completions file beside the
 * completions.
 *
 * A row of the completions file gets the values of its prompt's row, in datasets of the same names and
 * kinds. Which file has them is said by the journals' attribute BESIDE_ATTRIBUTE, which is only there
 * when the prompts have columns. One thread.
 *
 *     beside_open()                    the columns, in the file that is made
 *     beside_put() ...                 row by row
 *     beside_flush(), append_settle(), beside_end()
 *     beside_verify()                  of the file, opened again
 *     beside_close()
 */
#ifndef TANDEM_OUTPUT_BESIDE_H
#define TANDEM_OUTPUT_BESIDE_H

#include "base/err.h"
#include "data/h5.h"
#include "data/kept.h"

#define BESIDE_ATTRIBUTE "prompts_file"
#define BESIDE_ROWS      "prompts_rows" /* of it; always there */
#define BESIDE_RANGE     "job_rows"     /* of these the job's, of all its parts: "first end" */

struct beside;

/* A file's columns for reading. */
struct beside_source {
    struct h5_output file;
    struct kept *columns; /* NULL: none */
};

/* The prompts file that an attributes' JSON object names; none is no error. -1: it cannot be opened any
 * more; errno says whether waiting may mend that. */
int beside_source_open(struct beside_source *s, const char *attributes, struct err *e);
void beside_source_close(struct beside_source *s);

/* Makes columns as `like` has them in `out`; rows: how many there will be. like is NULL: *b too, and all
 * calls below do nothing. like must stay open longer. beside_put(): a row of columns that are the same
 * ones, perhaps of another file. */
int beside_open(struct beside **b, struct kept *like, struct h5_output *out, size_t rows,
                struct err *e);
int beside_put(struct beside *b, struct kept *from, size_t row, struct err *e);
int beside_flush(struct beside *b, struct err *e);
int beside_end(struct beside *b, struct err *e);
int beside_verify(const struct beside *b, hid_t file, struct err *e);
void beside_close(struct beside *b);

#endif
