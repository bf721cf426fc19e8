// SPDX-License-Identifier: Apache-2.0
// How the levels from AVX-512 on cut a product of attention into register tiles. Included by a
// level's attention.c behind its tile(rows, panels, p, m), with PRODUCT the type of *p and
// PRODUCT_NAME the name of the function that the level hands out. No include guard, on purpose.

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
