/* schema.h - a JSON schema as a grammar (format/grammar.h) of texts that it accepts.
 *
 * Every text of the grammar is JSON that the schema accepts; not every such JSON is a text of the grammar:
 *   objects    the properties in the order of the schema, those not required perhaps left out, and no
 *              others; without `properties`, any keys with values of additionalProperties
 *   space      one space, or one line end with up to 40 spaces, behind { [ , and before } ]; one space
 *              behind :
 *   integers   of up to 15 digits; numbers of up to 15, with up to 9 behind the point (fewer where bounds
 *              are large) and, where there are no bounds, exponents of up to two digits
 *   strings    characters as they are, or escaped: \" \\ \/ \b \f \n \r \t \uHHHH
 *   format     date (with the days that there are), time, date-time, duration, uuid, email, hostname, ipv4, uri
 *              (http and https); in ASCII, shorter than the standards allow
 *   nesting    as deep as AUTOMATON_DEPTH
 *
 * Supported: true, false, type, properties, required, additionalProperties, items, prefixItems, minItems,
 * maxItems, minLength, maxLength, pattern and format (neither with the others), minimum, maximum, exclusiveMinimum,
 * exclusiveMaximum (of numbers that are no integers: whole bounds), enum, const, anyOf, oneOf of schemas
 * that can be seen to be apart (types, const and enum, or required properties with them), allOf with one schema or with objects that
 * have properties and required alone, patternProperties with one pattern and no properties, $ref into the schema itself, $defs, definitions. Annotations (title, description, default,
 * examples, ...) are passed over. All else is refused by name.
 */
#ifndef TANDEM_FORMAT_SCHEMA_H
#define TANDEM_FORMAT_SCHEMA_H

#include "format/grammar.h"

#include <jansson.h>

/* From node to node of g; the schema must live until it returns. -1: not supported, with the place
 * ("#/properties/age: ..."). */
int schema_add(struct grammar *g, const json_t *schema, int32_t from, int32_t to, struct err *e);

#endif
