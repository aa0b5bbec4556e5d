//! How CPU twins work on the columns of `[rows, c]`: several rows at a time as one long vector, so that a handful of channels is as fast
//! as many, and in chunks whose size depends on `c` alone, so that sums are added in one order on any number of threads. And how
//! their shaders share such work out.

/// Elements of a long vector at least, where rows are shorter.
const SPAN: usize = 256;
/// Elements of a chunk, about: small enough to be read twice out of the second-level cache.
const CHUNK: usize = 1 << 15;

/// `parts()` of `shaders/common/columns.wgsl`.
fn parts(rows: u32) -> usize {
    (rows as usize).div_ceil(512).clamp(1, 1024)
}

/// Invocations of a kernel's first stage: a workgroup of 256 for each part of the rows and 32 columns.
pub fn threads(rows: u32, c: u32) -> usize {
    parts(rows) * (c as usize).div_ceil(32) * 256
}

/// The second stage: `values` words of scratch for each part and column, a workgroup of 256 for 32 columns.
pub fn finish(rows: u32, c: u32, values: usize) -> Option<[usize; 2]> {
    Some([parts(rows) * c as usize * values, (c as usize).div_ceil(32) * 256])
}

/// Rows of a long vector.
#[inline(always)]
pub fn span_rows(c: usize) -> usize {
    (SPAN / c.max(1)).max(1)
}

/// Rows of a chunk, a whole number of long vectors.
pub fn chunk_rows(c: usize) -> usize {
    let span = span_rows(c);
    (CHUNK / (span * c.max(1))).max(1) * span
}

/// One value a channel, repeated over a long vector.
pub fn spread(v: &[f32]) -> Vec<f32> {
    v.repeat(span_rows(v.len()))
}

/// Adds the rows of a long vector up: \[span, c\] -> \[c\].
#[inline(always)]
pub fn fold(long: &[f32], sums: &mut [f32]) {
    let c = sums.len();
    sums.copy_from_slice(&long[..c]);
    for row in long[c..].chunks_exact(c) {
        sums.iter_mut().zip(row).for_each(|(s, x)| *s += x);
    }
}

/// Adds `term(x, about)` of each element of each long vector in `x` (the last may be shorter) to `long`; `about` is as long as that.
#[inline(always)]
pub fn add_up(x: &[f32], about: &[f32], long: &mut [f32], term: impl Fn(f32, f32) -> f32) {
    /// Elements whose sums stay in registers.
    const N: usize = 64;
    /// Long vectors at a time: few enough for the first-level cache.
    const FEW: usize = 8;
    let span = long.len();
    let (whole, rest) = x.split_at(x.len() / span * span);
    let blocks = about.as_chunks::<N>();
    for x in whole.chunks(FEW * span) {
        let (longs, last) = long.as_chunks_mut::<N>();
        for (b, (long, about)) in longs.iter_mut().zip(blocks.0).enumerate() {
            let (mut sums, about) = (*long, *about);
            for x in x.chunks_exact(span) {
                let x = &x[b * N..(b + 1) * N];
                for k in 0..N {
                    sums[k] += term(x[k], about[k]);
                }
            }
            *long = sums;
        }
        let first = span - last.len();
        for x in x.chunks_exact(span) {
            last.iter_mut().zip(&x[first..]).zip(blocks.1).for_each(|((sum, x), about)| *sum += term(*x, *about));
        }
    }
    long.iter_mut().zip(rest).zip(about).for_each(|((sum, x), about)| *sum += term(*x, *about));
}
