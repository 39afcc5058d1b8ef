/* schema_format.c - the texts of `format`: what the names of JSON Schema mean, or a part of it. */
#include "format/regex.h"
#include "format/schema_compiler.h"

#include <stdio.h>
#include <string.h>

/* The years 1 to 9999, of every month the days that it has. */
#define YEAR "(\\d{3}[1-9]|\\d\\d[1-9]0|\\d[1-9]00|[1-9]000)"
#define LEAP "(\\d\\d(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
#define MONTH                                                                                      \
    "(0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-" \
    "8])"
#define DATE  "(" YEAR "-(" MONTH ")|" LEAP "-02-29)"
#define CLOCK "([01]\\d|2[0-3]):[0-5]\\d"
#define TIME  CLOCK ":[0-5]\\d(\\.\\d{1,6})?(Z|[+-]" CLOCK ")"
#define LABEL "[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
#define BYTE  "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
#define ATOM  "[a-zA-Z0-9_+-]{1,30}"
#define HOURS "(\\d{1,4}H(\\d{1,4}M(\\d{1,4}S)?)?|\\d{1,4}M(\\d{1,4}S)?|\\d{1,4}S)"

static const struct {
    const char *name, *pattern;
} formats[] = {
    {"date", "^" DATE "$"},
    {"time", "^" TIME "$"},
    {"date-time", "^" DATE "T" TIME "$"},
    {"duration", "^P(\\d{1,4}W|\\d{1,4}D(T" HOURS ")?|T" HOURS ")$"},
    {"uuid", "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
    {"email", "^" ATOM "(\\." ATOM "){0,1}@" LABEL "(\\." LABEL "){1,2}$"},
    {"hostname", "^" LABEL "(\\." LABEL "){0,2}$"},
    {"ipv4", "^" BYTE "(\\." BYTE "){3}$"},
    {"uri", "^https?://" LABEL "(\\." LABEL "){0,2}(/[A-Za-z0-9._~-]*)*$"},
};

int schema_add_format(struct schema_compiler *c, const char *name, int32_t from, int32_t to)
{
    char known[200] = "";
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (name && strcmp(formats[i].name, name) == 0)
            return regex_add(c->g, REGEX_JSON, formats[i].pattern, from, to, c->e);
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", formats[i].name);
    }
    return schema_refuse(c, "format \"%.40s\" is not supported; these are: %s", name ? name : "",
                         known);
}
