/* The floor: the whole job in C on librdkafka. Consume, decode, count, half-space trees, encode, produce; one thread.
 *
 * It links the librdkafka that the confluent-kafka wheel carries, so that every contestant has the same client. The
 * wheel has no header: what is used of its stable C interface is declared here.
 * Trees have the shape of River's (10 of height 8, window 250) with thresholds of their own.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

typedef struct kafka kafka;
typedef struct topic topic;
typedef struct queue queue;
typedef struct conf conf;
typedef struct list list;
typedef struct message {
    int err;
    topic *of;
    int32_t partition;
    void *payload;
    size_t len;
    void *key;
    size_t key_len;
    int64_t offset;
    void *opaque;
} message;

extern conf *rd_kafka_conf_new(void);
extern int rd_kafka_conf_set(conf *, const char *, const char *, char *, size_t);
extern kafka *rd_kafka_new(int type, conf *, char *, size_t);
extern int rd_kafka_poll_set_consumer(kafka *);
extern list *rd_kafka_topic_partition_list_new(int);
extern void *rd_kafka_topic_partition_list_add(list *, const char *, int32_t);
extern int rd_kafka_subscribe(kafka *, const list *);
extern queue *rd_kafka_queue_get_consumer(kafka *);
extern ssize_t rd_kafka_consume_batch_queue(queue *, int timeout_ms, message **, size_t);
extern int64_t rd_kafka_message_timestamp(const message *, int *type);
extern void rd_kafka_message_destroy(message *);
extern topic *rd_kafka_topic_new(kafka *, const char *, void *);
extern int rd_kafka_produce_batch(topic *, int32_t partition, int flags, message *, int count);
extern int rd_kafka_poll(kafka *, int timeout_ms);

enum { PRODUCER = 0, CONSUMER = 1, COPY = 2, BLOCK = 4, ANY_PARTITION = -1 };
enum { BATCH = 5000, RECORD = 160, SLOTS = 1 << 20, KINDS = 16 };
enum { TREES = 10, HEIGHT = 8, NODES = (1 << (HEIGHT + 1)) - 1, WINDOW = 250, WINDOW_MS = 10000 };

static void die(const char *what) {
    fprintf(stderr, "c_floor: %s\n", what);
    exit(1);
}

static kafka *client(int type, const char *pairs[][2]) {
    char why[512];
    conf *settings = rd_kafka_conf_new();
    for (int i = 0; pairs[i][0]; i++)
        if (rd_kafka_conf_set(settings, pairs[i][0], pairs[i][1], why, sizeof why) != 0) die(why);
    kafka *made = rd_kafka_new(type, settings, why, sizeof why);
    if (!made) die(why);
    return made;
}

/* --- Avro --- */

typedef struct { const uint8_t *at, *end; } reader;

static int64_t get_long(reader *in) {
    uint64_t coded = 0;
    for (int shift = 0; in->at < in->end && shift < 64; shift += 7) {
        uint8_t byte = *in->at++;
        coded |= (uint64_t)(byte & 0x7F) << shift;
        if (!(byte & 0x80)) return (int64_t)(coded >> 1) ^ -(int64_t)(coded & 1);
    }
    die("a long does not end");
    return 0;
}

static const uint8_t *get_text(reader *in, size_t *length) {
    int64_t size = get_long(in);
    if (size < 0 || size > in->end - in->at) die("a text does not end");
    const uint8_t *text = in->at;
    in->at += size;
    *length = (size_t)size;
    return text;
}

static uint8_t *put_long(uint8_t *out, int64_t number) {
    uint64_t coded = ((uint64_t)number << 1) ^ (uint64_t)(number >> 63);
    for (; coded > 0x7F; coded >>= 7) *out++ = (uint8_t)(coded | 0x80);
    *out++ = (uint8_t)coded;
    return out;
}

/* --- counts: one slot a device, which holds the count of its last window --- */

typedef struct { uint8_t name[48]; size_t length; int64_t window, count; } slot;
static slot *slots;

static uint64_t hash(const uint8_t *text, size_t length) {
    uint64_t found = 1469598103934665603u;
    for (size_t i = 0; i < length; i++) found = (found ^ text[i]) * 1099511628211u;
    return found;
}

static int64_t count(const uint8_t *name, size_t length, int64_t window) {
    if (length > sizeof slots->name) die("a name is too long");
    size_t at = hash(name, length) & (SLOTS - 1);
    while (slots[at].length && (slots[at].length != length || memcmp(slots[at].name, name, length)))
        at = (at + 1) & (SLOTS - 1);
    slot *mine = &slots[at];
    if (!mine->length) {
        memcpy(mine->name, name, length);
        mine->length = length;
        mine->window = -1;
    }
    if (mine->window != window) {
        mine->window = window;
        mine->count = 0;
    }
    return ++mine->count;
}

/* --- half-space trees, one model a sensor type --- */

typedef struct {
    uint64_t kind;
    int counter, is_warm;
    int32_t learned[TREES][NODES], reference[TREES][NODES];
} model;
static model models[KINDS];
static double thresholds[TREES][NODES];

static void grow(int tree, int node, double low, double high) {
    if (node >= NODES / 2) return;
    thresholds[tree][node] = low + (high - low) * (0.15 + 0.7 * (double)rand() / RAND_MAX);
    grow(tree, 2 * node + 1, low, thresholds[tree][node]);
    grow(tree, 2 * node + 2, thresholds[tree][node], high);
}

static double score(uint64_t kind, double value) {
    model *mine = models;
    while (mine->kind && mine->kind != kind)
        if (++mine == models + KINDS) die("too many sensor types");
    mine->kind = kind;
    double total = 0, limit = 0.1 * WINDOW, top = (double)TREES * WINDOW * NODES;
    for (int tree = 0; tree < TREES; tree++) {
        int node = 0, scoring = mine->is_warm;
        double power = 1;
        for (int depth = 0; depth <= HEIGHT; depth++) {
            if (scoring) {
                total += mine->reference[tree][node] * power;
                scoring = mine->reference[tree][node] >= limit;
                power *= 2;
            }
            mine->learned[tree][node]++;
            node = 2 * node + (value < thresholds[tree][node] ? 1 : 2);
            if (depth == HEIGHT) break;
        }
    }
    double result = mine->is_warm ? 1 - total / top : 0;
    if (++mine->counter == WINDOW) {
        memcpy(mine->reference, mine->learned, sizeof mine->learned);
        memset(mine->learned, 0, sizeof mine->learned);
        mine->is_warm = 1;
        mine->counter = 0;
    }
    return result;
}

/* --- the job --- */

static size_t work(const message *in, uint8_t *out) {
    static const uint8_t head[5] = {0, 0, 0, 0x23, 0x29};
    uint8_t *begin = out;
    size_t name_length, kind_length, length;
    double value, result;
    if (in->len < 5) die("a value is too short");
    reader body = {(const uint8_t *)in->payload + 5, (const uint8_t *)in->payload + in->len};
    const uint8_t *name = get_text(&body, &name_length);
    const uint8_t *kind = get_text(&body, &kind_length);
    get_text(&body, &length); /* site */
    int64_t at = get_long(&body), seq = get_long(&body);
    if (body.end - body.at < 8) die("a value is too short");
    memcpy(&value, body.at, 8);
    body.at += 8;
    get_text(&body, &length); /* unit */
    get_long(&body);          /* quality */
    if (body.at != body.end) die("a value is too long");
    int64_t counted = count(name, name_length, at / WINDOW_MS);
    result = score(hash(kind, kind_length), value);
    memcpy(out, head, 5);
    out = put_long(out + 5, (int64_t)name_length);
    memcpy(out, name, name_length);
    out = put_long(out + name_length, at);
    out = put_long(out, seq);
    memcpy(out, &value, 8);
    out = put_long(out + 8, counted);
    memcpy(out, &result, 8);
    out = put_long(out + 8, rd_kafka_message_timestamp(in, NULL));
    return (size_t)(out - begin);
}

int main(void) {
    const char *brokers = getenv("BENCH_BROKERS"), *group = getenv("BENCH_GROUP"), *output = getenv("BENCH_OUTPUT");
    if (!brokers || !group || !output) die("BENCH_BROKERS, BENCH_GROUP and BENCH_OUTPUT are needed");
    const char *consuming[][2] = {
        {"bootstrap.servers", brokers},   {"group.id", group},
        {"auto.offset.reset", "earliest"}, {"fetch.queue.backoff.ms", "5"},
        {"fetch.wait.max.ms", "5"},       {"queued.min.messages", "20000"},
        {NULL, NULL},
    };
    const char *producing[][2] = {
        {"bootstrap.servers", brokers}, {"acks", "all"}, {"linger.ms", "5"}, {"compression.type", "lz4"},
        {"queue.buffering.max.messages", "500000"},      {NULL, NULL},
    };
    static message *in[BATCH], outgoing[BATCH];
    static uint8_t records[BATCH][RECORD];
    kafka *consumer = client(CONSUMER, consuming), *producer = client(PRODUCER, producing);
    list *wanted = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(wanted, "fleet.readings", ANY_PARTITION);
    rd_kafka_poll_set_consumer(consumer);
    if (rd_kafka_subscribe(consumer, wanted) != 0) die("cannot subscribe");
    queue *source = rd_kafka_queue_get_consumer(consumer);
    topic *target = rd_kafka_topic_new(producer, output, NULL);
    slots = calloc(SLOTS, sizeof *slots);
    if (!slots || !target) die("no memory");
    srand(42);
    for (int tree = 0; tree < TREES; tree++) grow(tree, 0, 0, 40);
    for (;;) {
        ssize_t got = rd_kafka_consume_batch_queue(source, 10, in, BATCH);
        int filled = 0;
        for (ssize_t i = 0; i < got; i++) {
            if (in[i]->err) continue;
            message *out = &outgoing[filled];
            memset(out, 0, sizeof *out);
            out->payload = records[filled];
            out->len = work(in[i], records[filled]);
            out->key = in[i]->key;
            out->key_len = in[i]->key_len;
            filled++;
        }
        if (filled && rd_kafka_produce_batch(target, ANY_PARTITION, COPY | BLOCK, outgoing, filled) != filled)
            die("the queue took less than the batch");
        for (ssize_t i = 0; i < got; i++) rd_kafka_message_destroy(in[i]);
        rd_kafka_poll(producer, 0);
    }
}
