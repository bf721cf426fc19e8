// SPDX-License-Identifier: Apache-2.0
// Patterns of tokenizer.json are Oniguruma's. What means the same in PCRE2 is kept, what can be
// said in another way is, and the rest is refused by name.
#include <string.h>

#include "tokenizer/json.h"
#include "tokenizer/rules.h"

// Oniguruma's \w: circled letters too, and where it stands alone Latin-1's fractions and powers,
// which it is not in a class, [\w].
#define CLASS_WORD                                                                                 \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}"                                         \
    "\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"
#define WORD CLASS_WORD "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"

static hone_status refuse(const char *place, const char *pattern, size_t at, HoneError *err) {
    TextBuffer quoted = {0};
    hone_text_json(&quoted, pattern, strnlen(pattern, 200));
    hone_fail(err, HONE_ERROR_UNSUPPORTED,
              "%s: in the pattern %s, what is at byte %zu cannot be used", place,
              quoted.data && !quoted.failed ? quoted.data : "?", at);
    hone_text_free(&quoted);
    return HONE_ERROR_UNSUPPORTED;
}

// The escape at pattern[at] (the letter behind the backslash); false: not known to be the same.
static bool write_escape(TextBuffer *out, char letter, bool inside) {
    switch (letter) {
    case 's':
        hone_text_puts(out, inside ? HONE_SPACE : "[" HONE_SPACE "]");
        return true;
    case 'S':
        hone_text_puts(out, inside ? "\\S" : "[^" HONE_SPACE "]");
        return true;
    case 'w':
        hone_text_puts(out, inside ? CLASS_WORD : "[" WORD "]");
        return true;
    case 'W':
        hone_text_puts(out, "[^" WORD "]");
        return !inside;
    case 'b':
        hone_text_puts(out, "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))");
        return !inside;
    case 'B':
        hone_text_puts(out, "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))");
        return !inside;
    default:
        if (letter == 0 ||
            (((letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z')) &&
             !strchr("dDpPnrtfaexuAzZ", letter)))
            return false;
        hone_text_printf(out, "\\%c", letter);
        return true;
    }
}

// The bytes of "{Lu}" behind \p; 0: there is none.
static size_t property_bytes(const char *text) {
    const char *end = *text == '{' ? strchr(text, '}') : NULL;
    return end ? (size_t)(end - text) + 1 : 0;
}

// "\u00e9" is PCRE2's "\x{00e9}".
static bool write_code(TextBuffer *out, const char *digits) {
    if (strspn(digits, "0123456789abcdefABCDEF") < 4) return false;
    hone_text_printf(out, "\\x{%.4s}", digits);
    return true;
}

// Groups: only (?: (?= (?! (?<= (?<! (?> (?i: and (?i) mean the same.
static bool is_known_group(const char *text) {
    static const char *const known[] = {"?:", "?=", "?!", "?<=", "?<!", "?>", "?i:", "?i)"};
    if (*text != '?') return *text != '*';
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncmp(text, known[i], strlen(known[i])) == 0) return true;
    return false;
}

static hone_status translate(const char *place, const char *pattern, TextBuffer *out,
                             HoneError *err) {
    bool inside = false;
    for (size_t i = 0; pattern[i]; i++) {
        char c = pattern[i];
        if (c == '\\') {
            char letter = pattern[++i];
            bool known = letter == 'u' ? write_code(out, pattern + i + 1)
                                       : write_escape(out, letter, inside);
            if (!known) return refuse(place, pattern, i - 1, err);
            if (letter == 'u') i += 4;
            if (letter == 'p' || letter == 'P') {
                size_t bytes = property_bytes(pattern + i + 1);
                if (bytes == 0) return refuse(place, pattern, i - 1, err);
                hone_text_append(out, pattern + i + 1, bytes);
                i += bytes;
            }
            continue;
        }
        bool group = c == '(' && !inside && !is_known_group(pattern + i + 1);
        bool nested = inside && ((c == '[') || (c == '&' && pattern[i + 1] == '&'));
        bool possessive = c == '}' && !inside && pattern[i + 1] == '+';
        if (group || nested || possessive) return refuse(place, pattern, i, err);
        if (c == '[' && !inside) {
            inside = true;
            hone_text_puts(out, "[");
            if (pattern[i + 1] == '^') hone_text_append(out, &pattern[++i], 1);
            if (pattern[i + 1] == ']') return refuse(place, pattern, i, err);
            continue;
        }
        if (c == ']' && inside) inside = false;
        hone_text_append(out, &c, 1);
    }
    return HONE_OK;
}

static hone_status quote(TokenizerText text, TextBuffer *out) {
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (c < 0x80 && !letter)
            hone_text_printf(out, "\\x{%x}", c);
        else
            hone_text_append(out, &text.data[i], 1);
    }
    return HONE_OK;
}

hone_status hone_json_pattern(JsonReading *reading, const char *place, const json_t *value,
                              const char **pattern, TokenizerText *literal, HoneError *err) {
    const json_t *string = json_object_get(value, "String");
    const json_t *regex = json_object_get(value, "Regex");
    if (json_is_string(value)) string = value;
    if (!json_is_string(string) && !json_is_string(regex))
        return hone_json_wants(place, "a pattern, {\"String\": …} or {\"Regex\": …},", err);
    TokenizerText text = hone_json_text(json_is_string(string) ? string : regex);
    if (text.length == 0 || memchr(text.data, 0, text.length))
        return hone_json_wants(place, "a pattern that is not empty and has no zero", err);
    TextBuffer out = {0};
    hone_status status = HONE_OK;
    *literal = (TokenizerText){0};
    if (json_is_string(string)) {
        status = quote(text, &out);
        RETURN_IF_ERROR(hone_json_copy(reading, text, literal, err));
    } else {
        hone_text_puts(&out, "(?m)"); // ^ and $ are a line's
        status = translate(place, text.data, &out, err);
    }
    if (status == HONE_OK && out.failed) status = hone_fail_memory(err, out.length, "a pattern");
    TokenizerText kept = {0};
    if (status == HONE_OK)
        status = hone_json_copy(reading, (TokenizerText){out.data, out.length}, &kept, err);
    hone_text_free(&out);
    *pattern = kept.data;
    return status;
}
