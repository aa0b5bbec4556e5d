//! Inner loops over packed spikes that several families share. All are to be called under [`super::simd`].

/// `x` where bit `k` of `word` is set, else 0. Loops over `k` become one test against a constant vector and a masked move: five times
/// faster than ANDing `x` with a mask shifted out of the word.
#[inline(always)]
pub fn keep(x: f32, word: u32, k: usize) -> f32 {
    if word & (1 << k) != 0 { x } else { 0.0 }
}

/// dst\[c\] = src\[c\] where the row's spike is set, else 0.
#[inline(always)]
pub fn masked(dst: &mut [f32], src: &[f32], row: &[u32]) {
    for ((d, s), &w) in dst.chunks_mut(32).zip(src.chunks(32)).zip(row) {
        // A known length lets the compiler unroll; the last word of a row may be shorter.
        // Copied, for where a value might not be read, each is branched for.
        if let (Ok(d), Ok(s)) = (<&mut [f32; 32]>::try_from(&mut *d), <[f32; 32]>::try_from(s)) {
            for k in 0..32 {
                d[k] = keep(s[k], w, k);
            }
        } else {
            for k in 0..s.len() {
                d[k] = keep(s[k], w, k);
            }
        }
    }
}

/// dst\[c\] += src\[c\] where the row's spike is set.
#[inline(always)]
pub fn masked_add(dst: &mut [f32], src: &[f32], row: &[u32]) {
    for ((d, s), &w) in dst.chunks_mut(32).zip(src.chunks(32)).zip(row) {
        if let (Ok(d), Ok(s)) = (<&mut [f32; 32]>::try_from(&mut *d), <[f32; 32]>::try_from(s)) {
            for k in 0..32 {
                d[k] += keep(s[k], w, k);
            }
        } else {
            for k in 0..s.len() {
                d[k] += keep(s[k], w, k);
            }
        }
    }
}

/// Packs a row: nonzero is a spike.
#[inline(always)]
pub fn pack(row: &mut [u32], src: &[f32]) {
    for (w, s) in row.iter_mut().zip(src.chunks(32)) {
        let mut bits = 0u32;
        if let Ok(s) = <&[f32; 32]>::try_from(s) {
            for k in 0..32 {
                bits |= u32::from(s[k] != 0.0) << k;
            }
        } else {
            for k in 0..s.len() {
                bits |= u32::from(s[k] != 0.0) << k;
            }
        }
        *w = bits;
    }
}

/// Sum of 32 lanes as a workgroup adds them: halves onto halves.
#[inline(always)]
pub fn tree(mut lanes: [f32; 32]) -> f32 {
    let mut s = 16;
    while s > 0 {
        for l in 0..s {
            lanes[l] += lanes[l + s];
        }
        s /= 2;
    }
    lanes[0]
}
