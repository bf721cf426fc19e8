// SPDX-License-Identifier: Apache-2.0
#include <string.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "template/space.h"
#include "template/syntax.h"

typedef struct Lexer {
    const char *name;
    Arena *arena;
    HoneError *err;
    const char *source; // line ends are \n
    size_t length, at;
    Place place; // of source[at]
    Lexeme **end;
    char brackets[NESTING_LIMIT];
    int open;
} Lexer;

static hone_status fail(Lexer *lexer, Place place, const char *message, const char *detail) {
    return hone_fail(lexer->err, HONE_ERROR_INPUT, "%s line %d column %d: %s%s", lexer->name,
                     place.line, place.column, message, detail);
}

// Move forward, counting lines and characters.
static void move_to(Lexer *lexer, size_t target) {
    for (; lexer->at < target; lexer->at++) {
        unsigned char byte = (unsigned char)lexer->source[lexer->at];
        if (byte == '\n') {
            lexer->place.line++;
            lexer->place.column = 1;
        } else if ((byte & 0xc0) != 0x80) {
            lexer->place.column++;
        }
    }
}

static hone_status emit(Lexer *lexer, LexKind kind, Place place, const char *text, size_t length,
                        Lexeme **made) {
    Lexeme *lexeme = hone_arena_calloc(lexer->arena, 1, sizeof *lexeme);
    char *copy = hone_arena_strndup(lexer->arena, text, length);
    if (!lexeme || !copy) return hone_fail_memory(lexer->err, length, "a chat template");
    *lexeme = (Lexeme){.kind = kind, .place = place, .text = copy, .length = length};
    *lexer->end = lexeme;
    lexer->end = &lexeme->next;
    if (made) *made = lexeme;
    return HONE_OK;
}

static size_t skip_space(const Lexer *lexer, size_t at) {
    for (int bytes; (bytes = hone_space_at(lexer->source + at, lexer->length - at)) > 0;)
        at += (size_t)bytes;
    return at;
}

static bool starts(const Lexer *lexer, size_t at, const char *text) {
    size_t length = strlen(text);
    return lexer->length - at >= length && memcmp(lexer->source + at, text, length) == 0;
}

// Where the tag's end that begins at `at` stops, its white-space control included; 0: no end here.
static size_t tag_end(const Lexer *lexer, size_t at, char closing) {
    const char minus[] = {'-', closing, '}', 0}, plus[] = {'+', closing, '}', 0};
    if (starts(lexer, at, minus)) return skip_space(lexer, at + 3);
    if (closing == '}') return starts(lexer, at, minus + 1) ? at + 2 : 0;
    if (starts(lexer, at, plus)) return at + 3;
    if (!starts(lexer, at, minus + 1)) return 0;
    at += 2; // trim_blocks: the first newline after a block goes
    return at < lexer->length && lexer->source[at] == '\n' ? at + 1 : at;
}

// ---- strings and numbers -----------------------------------------------------------------------

static int digits_of(const char *text, size_t length, int base, int most, uint32_t *value) {
    int count = 0;
    for (*value = 0; count < most && (size_t)count < length; count++) {
        int c = (unsigned char)text[count];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : 99;
        if (digit >= base) break;
        *value = *value * (uint32_t)base + (uint32_t)digit;
    }
    return count;
}

// One escape, after its backslash. Python's rules: one that does not exist keeps its backslash.
static size_t decode_escape(const char *text, size_t length, TextBuffer *out, bool *ok) {
    static const char plain[] = "\\'\"abfnrtv", meaning[] = "\\'\"\a\b\f\n\r\t\v";
    char c = text[0];
    const char *found = c ? strchr(plain, c) : NULL;
    if (found) {
        hone_text_append(out, &meaning[found - plain], 1);
        return 1;
    }
    if (c == '\n') return 1;
    uint32_t code = 0;
    int want = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0, taken = 0;
    if (want) {
        if (digits_of(text + 1, length - 1, 16, want, &code) != want) *ok = false;
        taken = want + 1;
    } else if (c >= '0' && c <= '7') {
        taken = digits_of(text, length, 8, 3, &code);
    } else {
        if (c == 'N') *ok = false;
        hone_text_append(out, "\\", 1);
        return 0;
    }
    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) *ok = false;
    if (!*ok) return 0;
    char utf8[4];
    hone_text_append(out, utf8, (size_t)hone_utf8_encode(code, utf8));
    return (size_t)taken;
}

static hone_status lex_string(Lexer *lexer) {
    Place place = lexer->place;
    char quote = lexer->source[lexer->at];
    size_t begin = lexer->at + 1, end = begin;
    while (end < lexer->length && lexer->source[end] != quote)
        end += lexer->source[end] == '\\' ? 2 : 1;
    if (end >= lexer->length) return fail(lexer, place, "this string has no end", "");
    TextBuffer decoded = {0};
    bool ok = true;
    for (size_t i = begin; i < end && ok;) {
        if (lexer->source[i] != '\\') {
            hone_text_append(&decoded, lexer->source + i++, 1);
            continue;
        }
        i++;
        i += decode_escape(lexer->source + i, end - i, &decoded, &ok);
    }
    hone_status status = HONE_OK;
    if (!ok)
        status = fail(lexer, place, "an escape in this string is not a character", "");
    else if (decoded.failed)
        status = hone_fail_memory(lexer->err, end - begin, "a chat template");
    else
        status =
            emit(lexer, LEX_STRING, place, decoded.data ? decoded.data : "", decoded.length, NULL);
    hone_text_free(&decoded);
    move_to(lexer, end + 1);
    return status;
}

static bool is_digit(const Lexer *lexer, size_t at) {
    return at < lexer->length && lexer->source[at] >= '0' && lexer->source[at] <= '9';
}

// Digits with single underscores between them; the end of them.
static size_t digit_run(const Lexer *lexer, size_t at) {
    while (is_digit(lexer, at) || (at < lexer->length && lexer->source[at] == '_' && at > 0 &&
                                   is_digit(lexer, at - 1) && is_digit(lexer, at + 1)))
        at++;
    return at;
}

static hone_status lex_number(Lexer *lexer) {
    size_t begin = lexer->at, end = digit_run(lexer, begin);
    bool is_float = false, after_dot = begin > 0 && lexer->source[begin - 1] == '.';
    if (!after_dot && starts(lexer, end, ".") && is_digit(lexer, end + 1)) {
        end = digit_run(lexer, end + 1);
        is_float = true;
    }
    if (!after_dot && (starts(lexer, end, "e") || starts(lexer, end, "E"))) {
        size_t exponent = end + 1;
        if (starts(lexer, exponent, "+") || starts(lexer, exponent, "-")) exponent++;
        if (is_digit(lexer, exponent)) {
            end = digit_run(lexer, exponent);
            is_float = true;
        }
    }
    char digits[64];
    size_t used = 0;
    for (size_t i = begin; i < end && used < sizeof digits - 1; i++)
        if (lexer->source[i] != '_') digits[used++] = lexer->source[i];
    digits[used] = '\0';
    if (used == sizeof digits - 1) return fail(lexer, lexer->place, "this number is too long", "");
    Lexeme *lexeme = NULL;
    RETURN_IF_ERROR(emit(lexer, is_float ? LEX_FLOAT : LEX_INTEGER, lexer->place,
                         lexer->source + begin, end - begin, &lexeme));
    for (size_t i = 0; !is_float && i < used; i++)
        if (__builtin_mul_overflow(lexeme->integer, 10, &lexeme->integer) ||
            __builtin_add_overflow(lexeme->integer, digits[i] - '0', &lexeme->integer))
            return fail(lexer, lexer->place, "this integer does not fit 64 bits: ", digits);
    if (is_float) lexeme->number = strtod(digits, NULL);
    move_to(lexer, end);
    return HONE_OK;
}

// ---- inside a tag ------------------------------------------------------------------------------

static bool is_name_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static hone_status lex_operator(Lexer *lexer) {
    static const char *const operators[] = {"**", "//", "==", "!=", ">=", "<=", "+", "-", "/",
                                            "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                            ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        const char *text = operators[i];
        if (!starts(lexer, lexer->at, text)) continue;
        if (strchr("([{", text[0])) {
            if (lexer->open == NESTING_LIMIT)
                return fail(lexer, lexer->place, "brackets are nested too deeply", "");
            lexer->brackets[lexer->open++] = text[0];
        } else if (strchr(")]}", text[0])) {
            char want = text[0] == ')' ? '(' : text[0] == ']' ? '[' : '{';
            if (lexer->open == 0 || lexer->brackets[--lexer->open] != want)
                return fail(lexer, lexer->place, "there is no opening bracket for ", text);
        }
        RETURN_IF_ERROR(emit(lexer, LEX_OPERATOR, lexer->place, text, strlen(text), NULL));
        move_to(lexer, lexer->at + strlen(text));
        return HONE_OK;
    }
    char shown[8] = {lexer->source[lexer->at]};
    if ((unsigned char)shown[0] < 0x20 || (unsigned char)shown[0] >= 0x7f)
        snprintf(shown, sizeof shown, "\\x%02x", (unsigned)(unsigned char)lexer->source[lexer->at]);
    return fail(lexer, lexer->place, "a tag cannot hold this character: ", shown);
}

static hone_status lex_tag(Lexer *lexer, char closing, Place opened) {
    LexKind end_kind = closing == '}' ? LEX_PRINT_END : LEX_BLOCK_END;
    lexer->open = 0;
    while (lexer->at < lexer->length) {
        size_t end = lexer->open ? 0 : tag_end(lexer, lexer->at, closing);
        if (end) {
            RETURN_IF_ERROR(
                emit(lexer, end_kind, lexer->place, closing == '}' ? "}}" : "%}", 2, NULL));
            move_to(lexer, end);
            return HONE_OK;
        }
        char c = lexer->source[lexer->at];
        size_t after = skip_space(lexer, lexer->at);
        if (after > lexer->at) {
            move_to(lexer, after);
        } else if (c == '\'' || c == '"') {
            RETURN_IF_ERROR(lex_string(lexer));
        } else if (c >= '0' && c <= '9') {
            RETURN_IF_ERROR(lex_number(lexer));
        } else if (is_name_byte(c)) {
            for (end = lexer->at; end < lexer->length && is_name_byte(lexer->source[end]);) end++;
            RETURN_IF_ERROR(emit(lexer, LEX_NAME, lexer->place, lexer->source + lexer->at,
                                 end - lexer->at, NULL));
            move_to(lexer, end);
        } else {
            RETURN_IF_ERROR(lex_operator(lexer));
        }
    }
    return fail(lexer, opened, "this tag has no end: ", closing == '}' ? "{{" : "{%");
}

// ---- between tags ------------------------------------------------------------------------------

static hone_status lex_comment(Lexer *lexer, Place opened) {
    for (size_t at = lexer->at; at < lexer->length; at++) {
        size_t end = tag_end(lexer, at, '#');
        if (!end) continue;
        move_to(lexer, end);
        return HONE_OK;
    }
    return fail(lexer, opened, "this comment has no end: ", "{#");
}

// The template's own text from `begin` to the tag at `end`, without what white-space control takes.
static hone_status lex_data(Lexer *lexer, size_t begin, size_t end, char opening, char sign) {
    size_t kept = end;
    if (sign == '-') {
        kept = begin + hone_space_before(lexer->source + begin, end - begin);
    } else if (sign != '+' && opening != '{') {
        size_t line = end; // lstrip_blocks: white space between the line's begin and the tag goes
        while (line > begin && lexer->source[line - 1] != '\n') line--;
        bool whole_line = line > begin || line == 0 || lexer->source[line - 1] == '\n';
        if (whole_line && skip_space(lexer, line) >= end) kept = line;
    }
    if (kept == begin) return HONE_OK;
    return emit(lexer, LEX_DATA, lexer->place, lexer->source + begin, kept - begin, NULL);
}

static hone_status lex_all(Lexer *lexer) {
    while (lexer->at < lexer->length) {
        size_t tag = lexer->at;
        while (tag < lexer->length &&
               !(lexer->source[tag] == '{' && tag + 1 < lexer->length &&
                 strchr("{%#", lexer->source[tag + 1]) && lexer->source[tag + 1]))
            tag++;
        if (tag == lexer->length) {
            RETURN_IF_ERROR(emit(lexer, LEX_DATA, lexer->place, lexer->source + lexer->at,
                                 tag - lexer->at, NULL));
            move_to(lexer, tag);
            break;
        }
        char opening = lexer->source[tag + 1];
        char sign = tag + 2 < lexer->length ? lexer->source[tag + 2] : 0;
        if (sign != '-' && sign != '+') sign = 0;
        RETURN_IF_ERROR(lex_data(lexer, lexer->at, tag, opening, sign));
        move_to(lexer, tag);
        Place opened = lexer->place;
        if (opening != '#')
            RETURN_IF_ERROR(emit(lexer, opening == '{' ? LEX_PRINT_BEGIN : LEX_BLOCK_BEGIN, opened,
                                 opening == '{' ? "{{" : "{%", 2, NULL));
        move_to(lexer, tag + (sign ? 3 : 2));
        if (opening == '#')
            RETURN_IF_ERROR(lex_comment(lexer, opened));
        else
            RETURN_IF_ERROR(lex_tag(lexer, opening == '{' ? '}' : '%', opened));
    }
    return emit(lexer, LEX_END, lexer->place, "", 0, NULL);
}

hone_status hone_template_lex(const char *name, const char *source, size_t length, Arena *arena,
                              Lexeme **first, HoneError *err) {
    if (length > SOURCE_LIMIT)
        return hone_fail(err, HONE_ERROR_INPUT, "%s has %zu bytes, more than %d", name, length,
                         (int)SOURCE_LIMIT);
    char *clean = hone_arena_alloc(arena, length + 1);
    if (!clean) return hone_fail_memory(err, length, "a chat template");
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        if (source[i] == '\r') {
            clean[used++] = '\n';
            if (i + 1 < length && source[i + 1] == '\n') i++;
        } else {
            clean[used++] = source[i];
        }
    }
    if (used > 0 && clean[used - 1] == '\n') used--; // keep_trailing_newline is off
    clean[used] = '\0';
    Lexer lexer = {.name = name,
                   .arena = arena,
                   .err = err,
                   .source = clean,
                   .length = used,
                   .place = {1, 1},
                   .end = first};
    *first = NULL;
    return lex_all(&lexer);
}
