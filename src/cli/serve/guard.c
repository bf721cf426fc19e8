// SPDX-License-Identifier: Apache-2.0
// Who may ask. A page from somewhere in the user's browser can send requests to loopback; what it
// cannot do is leave out its Origin or, with a name that was made to point here (DNS rebinding),
// send another Host than that name.
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server.h"

bool is_loopback(const char *address) {
    return strcmp(address, "localhost") == 0 || strncmp(address, "127.", 4) == 0 ||
           strcmp(address, "::1") == 0;
}

bool read_key(const ServeOptions *options, char key[256]) {
    const char *given = getenv("HONE_API_KEY");
    key[0] = '\0';
    if (!options->key_file) {
        if (!given) return true;
        if (strlen(given) > 255) {
            fprintf(stderr, "hone serve: $HONE_API_KEY is longer than 255 bytes\n");
            return false;
        }
        snprintf(key, 256, "%s", given);
        return true;
    }
    FILE *file = fopen(options->key_file, "rb");
    if (!file) {
        fprintf(stderr, "hone serve: --key-file %s: %s\n", options->key_file, strerror(errno));
        return false;
    }
    size_t length = fread(key, 1, 255, file);
    const bool more = fgetc(file) != EOF;
    fclose(file);
    while (length && (key[length - 1] == '\n' || key[length - 1] == '\r')) length--;
    key[length] = '\0';
    if (length && !more && strlen(key) == length && !strpbrk(key, "\r\n")) return true;
    fprintf(stderr, "hone serve: --key-file %s: want one line of 1 to 255 bytes\n",
            options->key_file);
    return false;
}

// "name:port", "[::1]:port" → name. false: it is nothing of that kind.
static bool host_name(const char *host, char name[256]) {
    const char *end;
    if (*host == '[') {
        end = strchr(++host, ']');
        if (!end) return false;
    } else {
        end = host + strcspn(host, ":");
    }
    const size_t length = (size_t)(end - host);
    if (length == 0 || length > 255) return false;
    memcpy(name, host, length);
    name[length] = '\0';
    return true;
}

// An address in digits is no name that could be made to point here.
static bool is_address(const char *name) {
    unsigned char bytes[16];
    return inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1;
}

static bool is_known_host(const Server *server, const char *host) {
    char name[256];
    if (!host_name(host, name)) return false;
    if (is_address(name) || strcasecmp(name, "localhost") == 0) return true;
    const TextList *known = &server->options->known_hosts;
    for (int i = 0; i < known->count; i++)
        if (strcasecmp(name, known->items[i]) == 0) return true;
    return strcasecmp(name, server->options->host) == 0;
}

// A page of this server itself: its origin is the host that is asked.
static bool is_own_origin(const char *origin, const char *host) {
    const char *rest = strncmp(origin, "http://", 7) == 0    ? origin + 7
                       : strncmp(origin, "https://", 8) == 0 ? origin + 8
                                                             : NULL;
    return rest && strcasecmp(rest, host) == 0;
}

// In a time that tells nothing of where they differ.
static bool same_key(const char *key, const char *given) {
    const size_t length = strlen(key), other = strlen(given);
    unsigned char differs = length != other;
    for (size_t i = 0; i < length; i++)
        differs |= (unsigned char)(key[i] ^ (i < other ? given[i] : 0));
    return differs == 0;
}

unsigned guard(const Server *server, struct MHD_Connection *connection, const char *path,
               const char **why) {
    const char *host = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Host");
    const char *origin = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Origin");
    const char *given = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Authorization");
    if (host && !is_known_host(server, host)) {
        *why = "this server is not known by the name in Host (hone serve --allow-host NAME)";
        return MHD_HTTP_FORBIDDEN;
    }
    if (origin && !(host && is_own_origin(origin, host))) {
        *why = "pages of another origin may not ask this server";
        return MHD_HTTP_FORBIDDEN;
    }
    if (!*server->key || strncmp(path, "/v1/", 4) != 0) return 0;
    if (given && strncasecmp(given, "Bearer ", 7) == 0 && same_key(server->key, given + 7))
        return 0;
    *why = "the API key is missing or wrong (Authorization: Bearer KEY)";
    return MHD_HTTP_UNAUTHORIZED;
}
