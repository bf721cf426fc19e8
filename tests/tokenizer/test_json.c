// SPDX-License-Identifier: Apache-2.0
// tokenizer.json: what is written here becomes what it should, and what is wrong in it is said. The
// library that defines the format is compared in tests/interop.
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "check.h"
#include "tokenizer/tokenizer.h"

static char folder[] = "/tmp/hone-json-XXXXXX";

// A file with " where `text` has '. Caller frees the path.
static char *file_with(const char *name, const char *text) {
    char *path = hone_path_join(folder, name);
    char *quoted = hone_strdup(text);
    HoneError err = {0};
    for (char *c = quoted; *c; c++)
        if (*c == '\'') *c = '"';
    CHECK_INT(hone_file_write(path, quoted, strlen(quoted), &err), HONE_OK);
    hone_free(quoted);
    return path;
}

// ---- what is read ------------------------------------------------------------------------------

static Tokenizer *tokenizer_of(const char *json) {
    char *path = file_with("tokenizer.json", json);
    Tokenizer *tokenizer = NULL;
    HoneError err = {0};
    CHECK_INT(hone_tokenizer_read_json(path, &tokenizer, &err), HONE_OK);
    CHECK_STRING(err.message, "");
    hone_free(path);
    return tokenizer;
}

// The tokens' texts, with | between them, and the ranges that they came from.
// ranges: NULL for any.
static void check_tokens(const char *json, const char *text, const char *want, const char *ranges) {
    Tokenizer *tokenizer = tokenizer_of(json);
    if (!tokenizer) return;
    TokenList list = {0};
    TextBuffer got = {0}, places = {0};
    hone_text_puts(&got, "");
    hone_text_puts(&places, "");
    CHECK_INT(hone_tokenize_append(tokenizer, text, strlen(text), true, &list, NULL), HONE_OK);
    for (int64_t i = 0; i < list.count; i++) {
        TokenizerText bytes = hone_token_bytes(tokenizer, list.tokens[i], true);
        hone_text_puts(&got, i ? "|" : "");
        hone_text_append(&got, bytes.data, bytes.length);
        hone_text_printf(&places, "%s%u-%u", i ? " " : "", list.begin[i], list.end[i]);
    }
    CHECK_STRING(got.data, want);
    if (ranges) CHECK_STRING(places.data, ranges);
    hone_text_free(&got);
    hone_text_free(&places);
    hone_token_list_free(&list);
    hone_tokenizer_free(tokenizer);
}

#define BPE                                                                                        \
    "'model':{'type':'BPE','unk_token':'?','vocab':{'?':0,'a':1,'b':2,'ab':3,'\\u00e9':4,'f':5,"   \
    "'i':6,'\xe2\x96\x81':7,'e':8},'merges':[['a','b']]}"
#define UNIGRAM                                                                                    \
    "'model':{'type':'Unigram','unk_id':0,'vocab':[['?',0],['\xe2\x96\x81',-3],['a',-2],"          \
    "['\xe2\x96\x81"                                                                               \
    "a',-9],['aa',-3]]}"
#define WORDPIECE                                                                                  \
    "'model':{'type':'WordPiece','unk_token':'?','max_input_chars_per_word':4,"                    \
    "'vocab':{'?':0,'a':1,'##b':2,'##bb':3,',':4}}"

static void check_text(const char *json, const char *text, const char *want) {
    check_tokens(json, text, want, NULL);
}

static void models_are_read(void) {
    check_tokens("{" BPE "}", "abxb", "ab|?|b", "0-2 2-3 3-4");
    check_tokens("{'pre_tokenizer':{'type':'Metaspace'},'decoder':{'type':'Metaspace'}," UNIGRAM
                 "}",
                 "aaa a", " |a|aa| |a", "0-0 0-1 1-3 3-4 4-5");
    check_tokens("{'pre_tokenizer':{'type':'BertPreTokenizer'}," WORDPIECE "}", "abb, abbbb ax",
                 " a|bb|,|?|?", "0-1 1-3 3-4 5-10 11-13");
}

// What normalisation makes of several characters has the place of all of them.
static void tokens_know_their_bytes(void) {
    check_tokens("{'normalizer':{'type':'NFC'}," BPE "}", "ae\xcc\x81z", "a|\xc3\xa9|?",
                 "0-1 1-4 4-5");
    check_tokens("{'normalizer':{'type':'NFKC'}," BPE "}", "a\xef\xac\x81", "a|f|i", "0-1 1-4 1-4");
    check_tokens("{'normalizer':{'type':'Sequence','normalizers':[{'type':'NFD'},"
                 "{'type':'StripAccents'},{'type':'Lowercase'}]}," BPE "}",
                 "\xc3\x89"
                 "A",
                 "e|a", "0-2 2-3");
    check_tokens("{'normalizer':{'type':'Strip','strip_left':true,'strip_right':true}," BPE "}",
                 "  ab \n", "ab", "2-4");
    check_tokens("{'normalizer':{'type':'Replace','pattern':{'Regex':'x+'},'content':'b'}," BPE "}",
                 "axxx", "ab", "0-4");
    check_tokens("{'normalizer':{'type':'Prepend','prepend':'a'}," BPE "}", "b", "ab", "0-1");
}

#define ADDED(flags) "{'added_tokens':[{'id':9,'content':'T'" flags "}]," BPE "}"

static void added_tokens_are_found(void) {
    check_text(ADDED(""), "a T aT", "a|?|T|?|a|T");
    check_text(ADDED(",'lstrip':true"), "a  T aT", "a|T|?|a|T");
    check_text(ADDED(",'rstrip':true"), "a T  aT", "a|?|T|a|T");
    check_text(ADDED(",'single_word':true"), "a T aT", "a|?|T|?|a|?");
    check_text("{'normalizer':{'type':'Lowercase'},'added_tokens':[{'id':9,'content':'AB',"
               "'normalized':true}]," BPE "}",
               "aABab", "a|AB|AB");
}

static void ends_and_roles_are_read(void) {
    char *config = file_with("tokenizer_config.json",
                             "{'bos_token':{'content':'a'},'eos_token':'b','model_max_length':"
                             "1000000000000000019884624838656}");
    char *file =
        file_with("tokenizer.json",
                  "{'post_processor':{'type':'TemplateProcessing','single':[{'SpecialToken':"
                  "{'id':'i','type_id':0}},{'Sequence':{'id':'A','type_id':0}}]}," BPE "}");
    Tokenizer *tokenizer = NULL;
    HoneError err = {0};
    CHECK_INT(hone_tokenizer_read_json(folder, &tokenizer, &err), HONE_OK);
    CHECK_STRING(err.message, "");
    if (tokenizer) {
        CHECK_INT(hone_tokenizer_bos(tokenizer), 6); // what is put before texts comes first
        CHECK_INT(hone_tokenizer_eos(tokenizer), 2);
        CHECK(hone_tokenizer_adds_bos(tokenizer));
        CHECK(!hone_tokenizer_adds_eos(tokenizer));
        CHECK(hone_token_ends(tokenizer, 2));
    }
    hone_tokenizer_free(tokenizer);
    hone_free(config);
    hone_free(file);
}

// ---- what is refused ---------------------------------------------------------------------------

static const struct {
    const char *json;
    hone_status status;
    const char *words;
} bad[] = {
    {"[]", HONE_ERROR_INPUT, "a JSON object is wanted"},
    {"{'model':", HONE_ERROR_INPUT, "line 1"},
    {"{}", HONE_ERROR_INPUT, "model: an object is wanted"},
    {"{'model':{'type':'WordLevel','vocab':{}}}", HONE_ERROR_UNSUPPORTED, "\"WordLevel\""},
    {"{'model':{'type':'BPE','vocab':[],'merges':[]}}", HONE_ERROR_INPUT, "model.vocab"},
    {"{'model':{'type':'BPE','vocab':{},'merges':[]}}", HONE_ERROR_INPUT, "at least one"},
    {"{'model':{'type':'BPE','vocab':{'a':-1},'merges':[]}}", HONE_ERROR_INPUT, "number -1"},
    {"{'model':{'type':'BPE','vocab':{'a':4194304},'merges':[]}}", HONE_ERROR_INPUT, "4194304"},
    {"{'model':{'type':'BPE','vocab':{'a':'b'},'merges':[]}}", HONE_ERROR_INPUT, "token's number"},
    {"{'model':{'type':'BPE','vocab':{'a':1,'b':1},'merges':[]}}", HONE_ERROR_INPUT, "\"b\""},
    {"{'model':{'type':'BPE','vocab':{'a':1},'merges':['a a']}}", HONE_ERROR_INPUT, "merge 0"},
    {"{'model':{'type':'BPE','vocab':{'a':1},'merges':['a']}}", HONE_ERROR_INPUT, "two parts"},
    {"{'model':{'type':'BPE','vocab':{'a':1},'merges':[['a']]}}", HONE_ERROR_INPUT, "merges[0]"},
    {"{'model':{'type':'BPE','vocab':{'a':1},'merges':[],'unk_token':'u'}}", HONE_ERROR_INPUT,
     "unk_token: \"u\""},
    {"{'model':{'type':'BPE','vocab':{'a':1},'merges':[],'dropout':0.1}}", HONE_ERROR_UNSUPPORTED,
     "dropout"},
    {"{'model':{'type':'BPE','vocab':{'a':1},'merges':[],'end_of_word_suffix':'</w>'}}",
     HONE_ERROR_UNSUPPORTED, "end_of_word_suffix"},
    {"{'model':{'type':'Unigram','unk_id':2,'vocab':[['a',1]]}}", HONE_ERROR_INPUT, "unk_id"},
    {"{'model':{'type':'Unigram','vocab':[['a']]}}", HONE_ERROR_INPUT, "vocab[0]"},
    {"{'model':{'type':'WordPiece','vocab':{'a':0},'max_input_chars_per_word':0}}",
     HONE_ERROR_INPUT, "max_input_chars_per_word"},
    {"{'model':{'type':'WordPiece','vocab':{'a':0},'continuing_subword_prefix':''}}",
     HONE_ERROR_INPUT, "continuing_subword_prefix"},
    {"{'added_tokens':{}," BPE "}", HONE_ERROR_INPUT, "added_tokens: a list"},
    {"{'added_tokens':[1]," BPE "}", HONE_ERROR_INPUT, "added_tokens"},
    {"{'added_tokens':[{'id':1}]," BPE "}", HONE_ERROR_INPUT, "added_tokens[0]"},
    {"{'added_tokens':[{'id':1,'content':'x'}]," BPE "}", HONE_ERROR_INPUT, "another token"},
    {"{'normalizer':{'type':'Nowhere'}," BPE "}", HONE_ERROR_UNSUPPORTED, "\"Nowhere\""},
    {"{'normalizer':[]," BPE "}", HONE_ERROR_INPUT, "normalizer"},
    {"{'normalizer':{'type':'Prepend'}," BPE "}", HONE_ERROR_INPUT, "\"prepend\""},
    {"{'normalizer':{'type':'Replace','pattern':{'String':''},'content':''}," BPE "}",
     HONE_ERROR_INPUT, "not empty"},
    {"{'normalizer':{'type':'Precompiled','precompiled_charsmap':'AAA'}," BPE "}", HONE_ERROR_INPUT,
     "base64"},
    {"{'normalizer':{'type':'Precompiled','precompiled_charsmap':'CAAAAAAA'}," BPE "}",
     HONE_ERROR_INPUT, "charsmap"},
    {"{'pre_tokenizer':{'type':'UnicodeScripts'}," BPE "}", HONE_ERROR_UNSUPPORTED,
     "\"UnicodeScripts\""},
    {"{'pre_tokenizer':{'type':'Split','pattern':{'Regex':'[a&&b]'},'behavior':'Isolated'}," BPE
     "}",
     HONE_ERROR_UNSUPPORTED, "byte 2"},
    {"{'pre_tokenizer':{'type':'Split','pattern':{'Regex':'(a'},'behavior':'Isolated'}," BPE "}",
     HONE_ERROR_UNSUPPORTED, "Split"},
    {"{'pre_tokenizer':{'type':'Split','pattern':{'String':'a'},'behavior':'Away'}," BPE "}",
     HONE_ERROR_UNSUPPORTED, "\"Away\""},
    {"{'pre_tokenizer':{'type':'Sequence'}," BPE "}", HONE_ERROR_INPUT, "list"},
    {"{'post_processor':{'type':'BertProcessing','sep':['z',1],'cls':['a',1]}," BPE "}",
     HONE_ERROR_INPUT, "post_processor"},
    {"{'decoder':{'type':'CTC'}," BPE "}", HONE_ERROR_UNSUPPORTED, "\"CTC\""},
};

static void bad_files_are_refused(void) {
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *path = file_with("tokenizer.json", bad[i].json);
        Tokenizer *tokenizer = NULL;
        HoneError err = {0};
        CHECK_INT(hone_tokenizer_read_json(path, &tokenizer, &err), bad[i].status);
        CHECK(tokenizer == NULL);
        CHECK_CONTAINS(err.message, "tokenizer.json");
        CHECK_CONTAINS(err.message, bad[i].words);
        hone_tokenizer_free(tokenizer);
        hone_free(path);
    }
}

static void long_texts_do_not_hang(void) {
    static const char *const units[] = {"a", "\xcc\x81\xcc\xa3", "\xe1\x84\x80\xe1\x85\xa1", " ",
                                        "\xff"};
    static const char *const files[] = {
        "{'normalizer':{'type':'NFC'}," BPE "}",
        "{'normalizer':{'type':'NFKD'},'pre_tokenizer':{'type':'Whitespace'}," WORDPIECE "}",
        "{'normalizer':{'type':'BertNormalizer'},'pre_tokenizer':{'type':'Metaspace'}," UNIGRAM "}",
    };
    size_t length = 1 << 19;
    char *text = malloc(length);
    for (size_t file = 0; file < sizeof files / sizeof *files; file++) {
        Tokenizer *tokenizer = tokenizer_of(files[file]);
        for (size_t unit = 0; tokenizer && unit < sizeof units / sizeof *units; unit++) {
            size_t size = strlen(units[unit]);
            for (size_t i = 0; i < length; i++) text[i] = units[unit][i % size];
            TokenList list = {0};
            CHECK_INT(hone_tokenize_append(tokenizer, text, length, true, &list, NULL), HONE_OK);
            hone_token_list_free(&list);
        }
        hone_tokenizer_free(tokenizer);
    }
    free(text);
}

int main(void) {
    if (!mkdtemp(folder)) return 1;
    RUN(models_are_read);
    RUN(tokens_know_their_bytes);
    RUN(added_tokens_are_found);
    RUN(ends_and_roles_are_read);
    RUN(bad_files_are_refused);
    RUN(long_texts_do_not_hang);
    char *path = hone_path_join(folder, "tokenizer.json");
    hone_file_remove(path);
    hone_free(path);
    path = hone_path_join(folder, "tokenizer_config.json");
    hone_file_remove(path);
    hone_free(path);
    rmdir(folder);
    return check_report();
}
