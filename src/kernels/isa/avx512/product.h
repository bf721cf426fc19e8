// SPDX-License-Identifier: Apache-2.0
// A product of attention in register tiles, for the levels from AVX-512 on: C = [C +] A · B.
// Included by a level's attention.c, with
//   PRODUCT, ELEMENT        the types of *p and of what A and B consist of,
//   PRODUCT_NAME            the name of the function that the level hands out,
//   steps_of(p)             where the operands of the summed axis lie,
//   spread(a)               what a row of A has for one step, in all lanes,
//   add_product(sum, a, b)  sum + a·b,
//   add_spread(sum, a, b)   the same, with a read from memory by the instruction itself,
//   result(p, sum), result_added(p, sum, c)  what becomes of a sum.
// No include guard, on purpose.

enum { MOST_SUMS = 24, PRODUCT_PANELS = 4 };

// Rows [m, m + rows) of C for `panels` panels: a sum for each row and panel. Panels share what is
// spread of A; for one it is an operand of the multiply-add, and the loads are the bound where two
// are done a cycle. rows and panels are constants at each call.
static inline __attribute__((always_inline)) void tile(int rows, int panels, const PRODUCT *p,
                                                       int64_t m) {
    __m512 sums[MOST_SUMS];
    const ELEMENT *fours[MOST_SUMS / 4]; // every fourth row: the three after it are a short way off
    const PanelSteps steps = steps_of(p);
    const ELEMENT *B = p->B;
    const int64_t row = steps.row, apart = p->B_apart;
#pragma GCC unroll 24
    for (int i = 0; i < rows * panels; i++) sums[i] = _mm512_setzero_ps();
#pragma GCC unroll 4
    for (int r = 0; r < rows; r += 4) fours[r / 4] = steps.A + (m + r) * row;
    for (int64_t k = 0; k < steps.count; k++, B += steps.B_step) {
        __m512 b[PRODUCT_PANELS];
#pragma GCC unroll 4
        for (int n = 0; n < panels; n++) b[n] = _mm512_loadu_ps(B + n * apart);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            const ELEMENT *a = fours[r / 4] + r % 4 * row;
            if (panels == 1) {
                sums[r] = add_spread(sums[r], a, b[0]);
                continue;
            }
            __m512 all = spread(a);
#pragma GCC unroll 4
            for (int n = 0; n < panels; n++)
                sums[r * panels + n] = add_product(sums[r * panels + n], all, b[n]);
        }
#pragma GCC unroll 4
        for (int r = 0; r < rows; r += 4) fours[r / 4] += steps.A_step;
    }
    // Added at the end, a long row of products rounds as its parts.
    const int64_t ldc = p->ldc, C_apart = p->C_apart;
    float *C = p->C + m * ldc;
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int n = 0; n < panels; n++) {
            float *c = C + r * ldc + n * C_apart;
            __m512 *sum = &sums[r * panels + n];
            *sum = p->accumulate ? result_added(p, *sum, _mm512_loadu_ps(c)) : result(p, *sum);
            _mm512_storeu_ps(c, *sum);
        }
    if (!p->highest) return;
#pragma GCC unroll 4
    for (int n = 0; n < panels; n++) {
        __m512 most = _mm512_loadu_ps(p->highest + n * HONE_PANEL);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) // NaN is no maximum
            most = _mm512_max_ps(sums[r * panels + n], most);
        _mm512_storeu_ps(p->highest + n * HONE_PANEL, most);
    }
}

static inline __attribute__((always_inline)) void rows_from(int panels, const PRODUCT *p,
                                                            int64_t m) {
    const int64_t M = p->M;
    if (panels == 4) // eight rows go as twice four
        for (; M - m >= 6 && M - m != 8; m += 6) tile(6, panels, p, m);
    else
        for (; M - m >= 8; m += 8) tile(8, panels, p, m);
    for (; M - m >= 4; m += 4) tile(4, panels, p, m);
    switch (M - m) {
    case 1:
        tile(1, panels, p, m);
        break;
    case 2:
        tile(2, panels, p, m);
        break;
    case 3:
        tile(3, panels, p, m);
        break;
    default:
        break;
    }
}

static void PRODUCT_NAME(const PRODUCT *p) {
    int64_t m = 0;
    switch (p->panels) {
    case 4:
        rows_from(4, p, 0);
        break;
    case 3:
        rows_from(3, p, 0);
        break;
    case 2:
        rows_from(2, p, 0);
        break;
    default:
        for (; p->M - m >= 16; m += 16) tile(16, 1, p, m);
        rows_from(1, p, m);
        break;
    }
}
