/* An adapter in C without any library: cc -O2 -o mixture mixture.c -lm
 *
 * gmm-np conformance --command ./mixture
 *
 * One JSON object a line comes in, one goes out; docs/conformance.md has the protocol. The first half
 * reads JSON, the second is the mixture. Sums over samples are in long double.
 */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __VERSION__
#define COMPILER __VERSION__
#else
#define COMPILER "unknown compiler"
#endif

/* --- JSON -------------------------------------------------------------------------------------- */

typedef struct Node Node;
struct Node {
    enum { NUMBER, TEXT, LIST, OBJECT, OTHER } kind;
    double number;
    char *text;   /* of a string */
    Node *items;  /* of a list or an object */
    char **names; /* of an object's members */
    size_t n, room;
};

static void fail(const char *what) {
    fprintf(stderr, "mixture: %s\n", what);
    exit(1);
}

static void *memory(void *old, size_t bytes) {
    void *new = realloc(old, bytes ? bytes : 1);
    if (new == NULL) fail("out of memory");
    return new;
}

static const char *space(const char *s) {
    while (*s == ' ' || *s == '\t') s++;
    return s;
}

static const char *read_text(const char *s, char **text) {
    size_t n = 0;
    char *out = memory(NULL, strlen(s) < 4096 ? strlen(s) : 4096);
    for (s++; *s != '"'; s++) {
        if (*s == '\\') s++; /* no name that matters has an escape */
        if (*s == '\0' || n >= 4000) fail("a string does not end");
        out[n++] = *s;
    }
    out[n] = '\0';
    *text = out;
    return s + 1;
}

static const char *read_node(const char *s, Node *node);

static const char *read_items(const char *s, Node *node, char close) {
    s = space(s + 1);
    while (*s != close) {
        if (node->n == node->room) {
            node->room = node->room ? 2 * node->room : 2;
            node->items = memory(node->items, node->room * sizeof *node->items);
            if (close == '}') node->names = memory(node->names, node->room * sizeof *node->names);
        }
        if (close == '}') {
            s = space(read_text(s, &node->names[node->n]));
            if (*s++ != ':') fail("a colon is missing");
        }
        s = space(read_node(space(s), &node->items[node->n++]));
        if (*s == ',') s = space(s + 1);
        else if (*s != close) fail("a comma is missing");
    }
    return s + 1;
}

static const char *read_node(const char *s, Node *node) {
    char *end;
    memset(node, 0, sizeof *node);
    switch (*s) {
    case '[': node->kind = LIST; return read_items(s, node, ']');
    case '{': node->kind = OBJECT; return read_items(s, node, '}');
    case '"':
        node->kind = TEXT;
        s = read_text(s, &node->text);
        node->number = strcmp(node->text, "Infinity") == 0    ? INFINITY
                       : strcmp(node->text, "-Infinity") == 0 ? -INFINITY
                                                              : NAN;
        return s;
    default:
        node->kind = NUMBER;
        node->number = strtod(s, &end); /* correctly rounded in every C library of today */
        if (end == s) fail("not JSON");
        return end;
    }
}

static void forget(Node *node) {
    for (size_t i = 0; i < node->n; i++) {
        forget(&node->items[i]);
        if (node->names) free(node->names[i]);
    }
    free(node->items);
    free(node->names);
    free(node->text);
}

static const Node *member(const Node *object, const char *name) {
    for (size_t i = 0; object && i < object->n; i++)
        if (object->names && strcmp(object->names[i], name) == 0) return &object->items[i];
    return NULL;
}

static int is_text(const Node *node, const char *text) {
    return node && node->kind == TEXT && strcmp(node->text, text) == 0;
}

/* Copy nested lists of the given lengths to `out`; 0 if they have other lengths. */
static int numbers(const Node *node, const size_t *lengths, size_t axes, double **out) {
    if (axes == 0) {
        if (node->kind != NUMBER && node->kind != TEXT) return 0;
        *(*out)++ = node->number;
        return 1;
    }
    if (node->kind != LIST || node->n != lengths[0]) return 0;
    for (size_t i = 0; i < node->n; i++)
        if (!numbers(&node->items[i], lengths + 1, axes - 1, out)) return 0;
    return 1;
}

static double *array(const Node *node, size_t a, size_t b, size_t c, size_t axes) {
    size_t lengths[3] = {a, b, c}, size = 1;
    for (size_t i = 0; i < axes; i++) size *= lengths[i];
    double *values = memory(NULL, size * sizeof *values), *end = values;
    if (node && numbers(node, lengths, axes, &end)) return values;
    free(values);
    return NULL;
}

static void print_number(double value) {
    if (isfinite(value)) printf("%.17g", value);
    else printf(isnan(value) ? "\"NaN\"" : value > 0 ? "\"Infinity\"" : "\"-Infinity\"");
}

static void print_list(const long double *values, size_t n, long double over) {
    printf("[");
    for (size_t i = 0; i < n; i++) {
        if (i) printf(", ");
        print_number((double)(values[i] / over));
    }
    printf("]");
}

/* --- the mixture ------------------------------------------------------------------------------- */

typedef struct {
    size_t N, K, D;
    double *x, *logits, *means, *chol, *weights; /* [N D], [K], [K D], [K D D], [N] */
} Problem;

/* What is wrong with the arguments, or NULL. */
static const char *check(const Problem *p) {
    size_t on = 0, used = 0;
    if (!p->x || !p->logits || !p->means || !p->chol || !p->weights) return "shapes disagree";
    if (!p->N || !p->K || !p->D) return "x or means is empty";
    for (size_t i = 0; i < p->N * p->D; i++)
        if (!isfinite(p->x[i])) return "x is not finite";
    for (size_t i = 0; i < p->K * p->D; i++)
        if (!isfinite(p->means[i])) return "means are not finite";
    for (size_t k = 0; k < p->K; k++) {
        if (isnan(p->logits[k]) || p->logits[k] == INFINITY) return "a logit is not a number";
        on += isfinite(p->logits[k]);
        for (size_t i = 0; i < p->D; i++)
            for (size_t j = 0; j < p->D; j++) {
                double entry = p->chol[(k * p->D + i) * p->D + j];
                if (!isfinite(entry)) return "chol is not finite";
                if (i == j && entry <= 0) return "the diagonal of a factor is not positive";
                if (i < j && entry != 0) return "chol is not lower triangular";
            }
    }
    if (!on) return "every component is off";
    for (size_t n = 0; n < p->N; n++) {
        if (!(p->weights[n] >= 0) || isinf(p->weights[n])) return "a weight is not a number from 0";
        used += p->weights[n] > 0;
    }
    return used ? NULL : "every weight is zero";
}

/* Logarithm of the sum of exponentials; `terms` become the softmax. */
static double log_sum_exp(double *terms, size_t K) {
    size_t largest = 0;
    double others = 0;
    for (size_t k = 1; k < K; k++)
        if (terms[k] > terms[largest]) largest = k;
    double top = terms[largest];
    for (size_t k = 0; k < K; k++) {
        terms[k] = exp(terms[k] - top);
        if (k != largest) others += terms[k];
    }
    for (size_t k = 0; k < K; k++) terms[k] /= 1 + others;
    return top + log1p(others);
}

static void answer(const Problem *p, int mean) {
    const size_t N = p->N, K = p->K, D = p->D;
    double *pi = memory(NULL, K * sizeof *pi), *constant = memory(NULL, K * sizeof *constant);
    double *z = memory(NULL, K * D * sizeof *z), *pull = memory(NULL, D * sizeof *pull);
    double *resp = memory(NULL, K * sizeof *resp), top = -INFINITY;
    long double loss = 0, total = 0, *sums = calloc(K + K * D + K * D * D, sizeof *sums);
    long double *mass = sums, *d_means = sums + K, *d_chol = sums + K + K * D;
    if (sums == NULL) fail("out of memory");

    for (size_t k = 0; k < K; k++) top = fmax(top, p->logits[k]);
    for (size_t k = 0; k < K; k++) pi[k] = p->logits[k] - top;
    double log_total = log_sum_exp(pi, K);
    for (size_t k = 0; k < K; k++) {
        long double half_log_det = 0;
        for (size_t i = 0; i < D; i++) half_log_det += log(p->chol[(k * D + i) * D + i]);
        constant[k] = p->logits[k] - top - log_total - half_log_det - 0.5 * D * log(2 * acos(-1));
    }
    for (size_t n = 0; n < N; n++) {
        double weight = p->weights[n];
        total += weight;
        if (weight == 0) continue; /* a dropped row */
        for (size_t k = 0; k < K; k++) {
            double quadratic = 0, *v = z + k * D;
            for (size_t i = 0; i < D; i++) { /* L z = x - mu */
                const double *row = p->chol + (k * D + i) * D;
                double rest = p->x[n * D + i] - p->means[k * D + i];
                for (size_t j = 0; j < i; j++) rest -= row[j] * v[j];
                v[i] = rest / row[i];
                quadratic += v[i] * v[i];
            }
            resp[k] = constant[k] - 0.5 * quadratic;
        }
        loss -= weight * (long double)log_sum_exp(resp, K);
        for (size_t k = 0; k < K; k++) {
            double r = weight * resp[k], *v = z + k * D;
            mass[k] += r;
            if (r == 0) continue;
            for (size_t i = D; i-- > 0;) { /* L^T pull = z */
                double rest = v[i];
                for (size_t j = i + 1; j < D; j++) rest -= p->chol[(k * D + j) * D + i] * pull[j];
                pull[i] = rest / p->chol[(k * D + i) * D + i];
                d_means[k * D + i] -= r * pull[i];
                for (size_t j = 0; j <= i; j++) d_chol[(k * D + i) * D + j] -= r * pull[i] * v[j];
            }
        }
    }
    long double over = mean ? total : 1;
    printf("\"success\": true, \"output\": {\"nll\": ");
    print_number((double)(loss / over));
    for (size_t k = 0; k < K; k++)
        for (size_t i = 0; i < D; i++)
            d_chol[(k * D + i) * D + i] += mass[k] / p->chol[(k * D + i) * D + i];
    printf(", \"means\": [");
    for (size_t k = 0; k < K; k++) {
        if (k) printf(", ");
        print_list(d_means + k * D, D, over);
    }
    printf("], \"chol\": [");
    for (size_t k = 0; k < K; k++) {
        printf(k ? ", [" : "[");
        for (size_t i = 0; i < D; i++) {
            if (i) printf(", ");
            print_list(d_chol + (k * D + i) * D, D, over);
        }
        printf("]");
    }
    long double all = 0;
    for (size_t k = 0; k < K; k++) all += mass[k];
    for (size_t k = 0; k < K; k++) mass[k] = pi[k] * all - mass[k];
    printf("], \"logits\": ");
    print_list(mass, K, over);
    printf("}");
    free(pi), free(constant), free(z), free(pull), free(resp), free(sums);
}

static void evaluate(const Node *input) {
    const Node *x = member(input, "x"), *means = member(input, "means");
    const Node *weights = member(input, "weights");
    Problem p = {0};
    p.N = x ? x->n : 0;
    p.K = means ? means->n : 0;
    p.D = p.K ? means->items[0].n : 0;
    p.x = array(x, p.N, p.D, 0, 2);
    p.logits = array(member(input, "logits"), p.K, 0, 0, 1);
    p.means = array(means, p.K, p.D, 0, 2);
    p.chol = array(member(input, "chol"), p.K, p.D, p.D, 3);
    if (weights) p.weights = array(weights, p.N, 0, 0, 1);
    else {
        p.weights = memory(NULL, p.N * sizeof *p.weights);
        for (size_t n = 0; n < p.N; n++) p.weights[n] = 1;
    }
    const char *wrong = check(&p);
    if (wrong) printf("\"success\": false, \"status\": \"rejected\", \"error\": \"%s\"", wrong);
    else answer(&p, is_text(member(input, "reduction"), "mean"));
    free(p.x), free(p.logits), free(p.means), free(p.chol), free(p.weights);
}

int main(void) {
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        Node message;
        read_node(space(line), &message);
        const Node *id = member(&message, "id"), *kind = member(&message, "kind");
        printf("{\"id\": %.0f, ", id ? id->number : -1.0);
        if (is_text(kind, "start")) printf("\"tool\": \"C, %s\"", COMPILER);
        else if (is_text(kind, "define")) {
            int known = is_text(member(&message, "module"), "cholesky");
            printf("\"success\": %s", known ? "true" : "false");
        } else evaluate(member(&message, "input"));
        printf("}\n");
        fflush(stdout);
        forget(&message);
    }
    free(line);
    return 0;
}
