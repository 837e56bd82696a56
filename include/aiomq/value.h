/*
 * value.h - values that all languages of a pool understand: arguments of calls, and results.
 *
 * Part of aiomq.h, which includes it. A value is what schema/value.capnp says: none, a bool, an int, a
 * float, a text, bytes, or a list, tuple, set or dict of values. With these functions a C program calls
 * a Python function, and is called by one, without Cap'n Proto and without a pickle.
 *
 * Neither writers nor opened values may be used by two threads at once; values are plain memory, and may
 * be copied. Nothing here blocks or calls the system but for memory.
 */
#ifndef AIOMQ_VALUE_H
#define AIOMQ_VALUE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct aiomq_item;
struct aiomq_job;
struct aiomq_task;

/** What a value is. Types are exact: a bool is not an int, a tuple is not a list. */
enum aiomq_type {
    AIOMQ_TYPE_NONE = 0,
    AIOMQ_TYPE_BOOL = 1,
    AIOMQ_TYPE_INT = 2,    /**< fits int64_t */
    AIOMQ_TYPE_BIGINT = 3, /**< does not: two's complement bytes, the least significant first */
    AIOMQ_TYPE_FLOAT = 4,
    AIOMQ_TYPE_TEXT = 5, /**< UTF-8 */
    AIOMQ_TYPE_BYTES = 6,
    AIOMQ_TYPE_LIST = 7,
    AIOMQ_TYPE_TUPLE = 8,
    AIOMQ_TYPE_DICT = 9,
    AIOMQ_TYPE_SET = 10,
    AIOMQ_TYPE_FROZENSET = 11,
    AIOMQ_TYPE_PICKLE = 12,  /**< a Python object that is none of these: the bytes of its pickle */
    AIOMQ_TYPE_BUFFERED = 13 /**< likewise; its large parts lie beside the pickle */
};

/** A value where it lies. What it points to is as long there as the message it was opened in. 64 bytes. */
typedef struct aiomq_value {
    uint32_t type;  /**< enum aiomq_type */
    uint32_t count; /**< elements; entries of a dict; bytes of TEXT, BYTES, BIGINT and PICKLE */
    union {
        int64_t integer;  /**< INT; BOOL as 0 or 1 */
        double real;      /**< FLOAT */
        const void *data; /**< TEXT (not terminated), BYTES, BIGINT, PICKLE; a packed container */
    } value;
    uint32_t
        packed;   /**< AIOMQ_TYPE_INT: the elements are `count` int64_t at `data`; AIOMQ_TYPE_FLOAT:
                          doubles; else 0: see aiomq_value_element() */
    uint32_t row; /**< private, as is the next */
    uint64_t place[5];
} aiomq_value;

/** Takes values and makes a message of them. */
typedef struct aiomq_value_writer aiomq_value_writer;

/** aiomq_value_writer_create() - a writer without values; end it with aiomq_value_writer_destroy().
 *  Return: 0, or -EINVAL, -ENOMEM. Since: 0.1 */
int aiomq_value_writer_create(aiomq_value_writer **ret_writer);

/** aiomq_value_writer_destroy() - free it; sets *@writer to NULL; NULL-safe. Since: 0.1 */
void aiomq_value_writer_destroy(aiomq_value_writer **writer);

/** aiomq_value_writer_reset() - forget all values, for the next message. Return: 0, or -EINVAL.
 *  Since: 0.1 */
int aiomq_value_writer_reset(aiomq_value_writer *writer);

/** aiomq_value_write_none() - add none. Return: 0, or -EINVAL (a NULL, or a positional argument behind
 *  keywords; so below), -ENOMEM. Since: 0.1 */
int aiomq_value_write_none(aiomq_value_writer *writer);

/** aiomq_value_write_bool() - add a bool: @value is 0 or something else. Return: as
 *  aiomq_value_write_none(). Since: 0.1 */
int aiomq_value_write_bool(aiomq_value_writer *writer, int value);

/** aiomq_value_write_int() - add an int. Return: as aiomq_value_write_none(). Since: 0.1 */
int aiomq_value_write_int(aiomq_value_writer *writer, int64_t value);

/** aiomq_value_write_float() - add a float. Return: as aiomq_value_write_none(). Since: 0.1 */
int aiomq_value_write_float(aiomq_value_writer *writer, double value);

/** aiomq_value_write_text() - add @bytes bytes of UTF-8, borrowed until the message is stored or a task or
 *  item made of it was handed over. Return: 0, or -EINVAL, -ENOMEM, -EMSGSIZE (over 512 MiB), -EILSEQ (not
 *  UTF-8). Since: 0.1 */
int aiomq_value_write_text(aiomq_value_writer *writer, const char *text, size_t bytes);

/** aiomq_value_write_bytes() - add bytes, borrowed as those of a text. Return: 0, or -EINVAL, -ENOMEM,
 *  -EMSGSIZE. Since: 0.1 */
int aiomq_value_write_bytes(aiomq_value_writer *writer, const void *data, size_t bytes);

/** aiomq_value_write_ints() - add a list of @count ints, borrowed. Return: as
 *  aiomq_value_write_bytes(). Since: 0.1 */
int aiomq_value_write_ints(aiomq_value_writer *writer, const int64_t *values, size_t count);

/** aiomq_value_write_floats() - add a list of @count floats, borrowed. Return: as
 *  aiomq_value_write_bytes(). Since: 0.1 */
int aiomq_value_write_floats(aiomq_value_writer *writer, const double *values, size_t count);

/** aiomq_value_write_begin() - begin a container: LIST, TUPLE, SET, FROZENSET, or DICT, whose keys and
 *  values take turns. What is added is inside it until aiomq_value_write_end(). They nest at most 64 deep.
 *  Return: 0, or -EINVAL, -ENOMEM, -EMSGSIZE (too deep). Since: 0.1 */
int aiomq_value_write_begin(aiomq_value_writer *writer, int type);

/** aiomq_value_write_end() - end the innermost container. Return: 0, or -EINVAL (there is none, or a key
 *  without a value), -ENOMEM, -EMSGSIZE. Since: 0.1 */
int aiomq_value_write_end(aiomq_value_writer *writer);

/** aiomq_value_write_keyword() - the next value is the argument called @name, borrowed. Keywords come
 *  after all positional arguments. Return: 0, or -EINVAL, -ENOMEM. Since: 0.1 */
int aiomq_value_write_keyword(aiomq_value_writer *writer, const char *name);

/** aiomq_value_write_call() - what follows are arguments of the next call of a chunk. Return: 0, or -EINVAL
 *  (something is open, or there are keywords, or AIOMQ_ITEMS_MAX calls), -ENOMEM. Since: 0.1 */
int aiomq_value_write_call(aiomq_value_writer *writer);

/**
 * aiomq_value_measure() - bytes of the message made of what was added.
 * @kind: AIOMQ_KIND_VALUE (one value), AIOMQ_KIND_CALL (any number: the arguments of one call) or
 *        AIOMQ_KIND_CHUNK (arguments of many).
 * Return: how many; or -EINVAL (something is open, or not what such a message holds), -ENOMEM, -EMSGSIZE
 *         (over 4 GiB). Since: 0.1
 */
int64_t aiomq_value_measure(aiomq_value_writer *writer, int kind);

/** aiomq_value_store() - write the message that was measured last.
 *  @memory: 8-byte aligned, with room for what aiomq_value_measure() returned, e.g. of aiomq_pool_alloc().
 *  Return: 0, or -EINVAL (nothing was measured since the last change). Since: 0.1 */
int aiomq_value_store(aiomq_value_writer *writer, void *memory);

/**
 * aiomq_value_task() - make what was added the payload of a task.
 * @task: its kind, integer, payload, payload_bytes and items are set; the writer owns the payload until it
 *        is changed, so submit before.
 *
 * One call, or a chunk if aiomq_value_write_call() was used. No argument, or a bool, int or float alone,
 * needs no message at all.
 * Return: 0, or -EINVAL, -ENOMEM, -EMSGSIZE as aiomq_value_measure(). Since: 0.1
 */
int aiomq_value_task(aiomq_value_writer *writer, struct aiomq_task *task);

/** aiomq_value_item() - make the one value that was added the result of an item: kind, bytes and value of
 *  @item are set, likewise. No value is none. Return: as aiomq_value_task(). Since: 0.1 */
int aiomq_value_item(aiomq_value_writer *writer, struct aiomq_item *item);

/** aiomq_value_open() - the value that a finished item is. Not for errors: see aiomq_error_decode().
 *  Return: 0, or -EINVAL, -EBADMSG (damaged). Since: 0.1 */
int aiomq_value_open(const struct aiomq_item *item, aiomq_value *ret_value);

/**
 * aiomq_value_arguments() - the arguments of one call of a job.
 * @item: which call.
 * @ret_positional: a tuple.
 * @ret_keywords: a dict whose keys are texts.
 * Return: 0, or -EINVAL, -EBADMSG (damaged). Since: 0.1
 */
int aiomq_value_arguments(const struct aiomq_job *job, uint32_t item, aiomq_value *ret_positional,
                          aiomq_value *ret_keywords);

/** aiomq_value_column() - argument @index of all calls of a chunk, as a list with an element for each item.
 *  Return: 0, or -ENOENT (no chunk whose calls have the same number of arguments, or they have fewer),
 *  -EINVAL, -EBADMSG (damaged). Since: 0.1 */
int aiomq_value_column(const struct aiomq_job *job, uint32_t index, aiomq_value *ret_column);

/** aiomq_value_element() - element @index of a container; of a dict, the value of that entry.
 *  Return: 0, or -EINVAL (not a container), -ENOENT (has fewer), -EBADMSG (damaged). Since: 0.1 */
int aiomq_value_element(const aiomq_value *container, uint32_t index, aiomq_value *ret_value);

/** aiomq_value_key() - key @index of a dict. Return: as aiomq_value_element(). Since: 0.1 */
int aiomq_value_key(const aiomq_value *dict, uint32_t index, aiomq_value *ret_key);

/** aiomq_value_find() - the value of a dict's entry whose key is the text @key.
 *  Return: 0, or -EINVAL (not a dict), -ENOENT (has none), -EBADMSG (damaged). Since: 0.1 */
int aiomq_value_find(const aiomq_value *dict, const char *key, aiomq_value *ret_value);

/** aiomq_type_name() - "int", "list", …; "unknown" for others. Since: 0.1 */
const char *aiomq_type_name(int type);

#ifdef __cplusplus
}
#endif

#endif /* AIOMQ_VALUE_H */
