// SPDX-License-Identifier: Apache-2.0
// An attention map as a picture: a row a layer, a column a head, the layer's mean first; each a
// square of queries (down) and keys (to the right). Strong is dark, as the square root; in a
// difference what gained is orange and what lost is blue.
#include "train/attention_map.h"

#include <math.h>
#include <string.h>

#include "io/png.h"

enum {
    LEAST = 40,  // pixels of a square's side
    ALONE = 640, // of the only one
    GAP = 4,     // between squares
    GLYPH = 2,   // pixels of a digit's dot
    MARGIN = 34, // for four digits
    HEADING = 5 * GLYPH + 2 * GAP,
};

typedef struct Picture {
    int64_t width, height;
    unsigned char *rgb;
} Picture;

static void put_pixel(Picture *picture, int64_t x, int64_t y, const float rgb[3]) {
    for (int c = 0; c < 3; c++)
        picture->rgb[(y * picture->width + x) * 3 + c] = (unsigned char)lrintf(rgb[c]);
}

// Rows of three dots, the upper left in the highest bit.
static const uint16_t digits[10] = {0x7b6f, 0x2c97, 0x73e7, 0x73cf, 0x5bc9,
                                    0x79cf, 0x79ef, 0x7292, 0x7bef, 0x7bcf};

// A number whose first digit begins at (x, y), or whose last ends before x.
static void put_number(Picture *picture, int64_t number, int64_t x, int64_t y, bool ends) {
    static const float ink[3] = {90, 96, 102};
    int length = 1;
    for (int64_t rest = number; rest >= 10; rest /= 10) length++;
    if (!ends) x += length * 4 * GLYPH;
    for (int i = 0; i < length; i++, number /= 10) {
        x -= 4 * GLYPH;
        for (int dot = 0; dot < 15 * GLYPH * GLYPH; dot++) {
            const int column = dot % (3 * GLYPH), row = dot / (3 * GLYPH);
            if (digits[number % 10] >> (14 - (row / GLYPH * 3 + column / GLYPH)) & 1)
                put_pixel(picture, x + column, y + row, ink);
        }
    }
}

static void colour_of(float p, HoneMapSide side, float rgb[3]) {
    static const float none[3] = {247, 245, 240}, most[3] = {16, 62, 84}, gained[3] = {170, 66, 10},
                       lost[3] = {20, 100, 140};
    const float share = sqrtf(fminf(fabsf(p), 1));
    const float *to = side != HONE_MAP_DIFFERENCE ? most : p < 0 ? lost : gained;
    for (int c = 0; c < 3; c++) rgb[c] = none[c] + (to[c] - none[c]) * share;
}

static void put_square(Picture *picture, int64_t T, const float *shown, HoneMapSide side,
                       int64_t x0, int64_t y0, int64_t scale) {
    for (int64_t y = 0; y < T * scale; y++)
        for (int64_t x = 0; x < T * scale; x++) {
            float rgb[3];
            colour_of(shown[y / scale * T + x / scale], side, rgb);
            put_pixel(picture, x0 + x, y0 + y, rgb);
        }
}

static void draw(Picture *picture, const HoneAttentionMap *map, HoneMapSide side, int64_t scale,
                 float *shown) {
    const HoneAttentionMapInfo *info = &map->info;
    const int64_t means = info->heads > 1, step = info->tokens * scale + GAP;
    for (int64_t h = 0; h < info->heads; h++)
        put_number(picture, info->first_head + h, MARGIN + (h + means) * step, GAP, false);
    for (int64_t l = 0; l < info->layers; l++) {
        const int64_t y = HEADING + l * step;
        put_number(picture, info->first_layer + l, MARGIN - GAP, y, true);
        for (int64_t column = 0; column < info->heads + means; column++) {
            hone_map_shown(map, side, l, column - means, shown);
            put_square(picture, info->tokens, shown, side, MARGIN + column * step, y, scale);
        }
    }
}

hone_status hone_map_picture(const HoneAttentionMap *map, HoneMapSide side, const char *path,
                             HoneError *err) {
    const HoneAttentionMapInfo *info = &map->info;
    const int64_t T = info->tokens, columns = info->heads + (info->heads > 1);
    const int64_t least = info->layers * info->heads == 1 ? ALONE : LEAST;
    const int64_t scale = T < least ? (least + T - 1) / T : 1;
    Picture picture = {.width = MARGIN + columns * (T * scale + GAP),
                       .height = HEADING + info->layers * (T * scale + GAP)};
    const size_t bytes = (size_t)(picture.width * picture.height * 3);
    picture.rgb = hone_alloc(bytes);
    float *shown = hone_alloc((size_t)(T * T) * sizeof *shown);
    hone_status status = HONE_OK;
    if (!picture.rgb || !shown) {
        status = hone_fail_memory(err, bytes, "a picture");
    } else {
        memset(picture.rgb, 255, bytes);
        draw(&picture, map, side, scale, shown);
        status = hone_png_write(path, picture.width, picture.height, picture.rgb, err);
    }
    hone_free(picture.rgb);
    hone_free(shown);
    return status;
}
