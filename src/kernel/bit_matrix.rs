//! Packed spikes as a matrix: which rows it has, and where its spikes are.

use super::bits::keep;
use super::product::{Rows, bit_density, wide};
use super::{simd, words};
use std::ops::Range;

/// Adds the spikes of a row's words to `out` \[c\].
#[inline(always)]
pub fn unpack_row(bits: &[u32], out: &mut [f32], add: bool) {
    // A copy of each word, which `out` cannot be seen to change: bits are else tested one by one.
    for (&w, out) in bits.iter().zip(out.chunks_mut(32)) {
        // Whole words by a loop of known length, which vectorises best.
        if let (false, Ok(out)) = (add, <&mut [f32; 32]>::try_from(&mut *out)) {
            for (i, o) in out.iter_mut().enumerate() {
                *o = keep(1.0, w, i);
            }
            continue;
        }
        for (i, o) in out.iter_mut().enumerate() {
            *o = if add { *o } else { 0.0 } + keep(1.0, w, i);
        }
    }
}

/// Which of the rows of packed spikes a matrix has.
#[derive(Clone, Copy)]
pub enum Pick<'a> {
    /// Each as it is.
    Each,
    /// For each pixel of images of this height and width its nine neighbours, for a 3x3 convolution: k = tap * c + channel.
    Neighbours(usize, usize),
    /// Those with these numbers.
    Listed(&'a [u32]),
}

/// Packed spikes \[planes, rows, words(c)\] as a matrix, planes summed.
pub struct BitMatrix<'a> {
    /// The words.
    pub x: &'a [u32],
    /// Rows of x.
    pub rows: usize,
    /// Channels.
    pub c: usize,
    /// Planes.
    pub planes: usize,
    /// The rows of the matrix.
    pub pick: Pick<'a>,
}

impl BitMatrix<'_> {
    /// Calls `f(tap, source row)`.
    #[inline(always)]
    fn each_tap(&self, row: usize, mut f: impl FnMut(usize, usize)) {
        match self.pick {
            Pick::Each => f(0, row),
            Pick::Neighbours(h, w) => each_tap(row, h, w, f),
            Pick::Listed(list) => f(0, list[row] as usize),
        }
    }
    fn taps(&self) -> usize {
        if matches!(self.pick, Pick::Neighbours(..)) { 9 } else { 1 }
    }
    /// Fraction of set bits of all rows of x, whichever the matrix has (a spike counts once for each plane it is in).
    pub fn density(&self) -> f64 {
        bit_density(self.x, self.rows * self.c)
    }
    /// The rows of x among which the neighbours of some rows of the matrix lie.
    fn around(&self, rows: Range<usize>) -> Range<usize> {
        match self.pick {
            Pick::Neighbours(_, w) => rows.start.saturating_sub(w + 1)..(rows.end + w + 1).min(self.rows),
            Pick::Each | Pick::Listed(_) => 0..0,
        }
    }
    /// Words of a list that holds the spikes of so many rows.
    pub(super) fn room(&self, rows: usize) -> usize {
        (rows * self.planes * self.k() + 32).next_multiple_of(16)
    }
    /// Words that [`Near`] needs for so many rows.
    pub(super) fn room_near(&self, rows: usize) -> usize {
        let Pick::Neighbours(_, w) = self.pick else { return 0 };
        let around = rows + 2 * (w + 1);
        // Whole lines of the cache, for what lies behind it.
        (self.planes * (around * self.c + around + 1) + 32).next_multiple_of(16)
    }
    /// Appends the spikes of row `source` of plane `q` of x, as columns from `first` on, to the `len` that `list` has.
    #[inline(always)]
    fn list(&self, q: usize, source: usize, first: usize, list: &mut [u32], len: &mut usize) {
        let nw = words(self.c);
        let at = (q * self.rows + source) * nw;
        for (i, pair) in self.x[at..at + nw].chunks(2).enumerate() {
            *len += columns_of(pair, (first + i * 64) as u32, &mut list[*len..]);
        }
    }
    /// Whether `n` rows of plane `q` of x are empty.
    #[inline(always)]
    fn empty(&self, q: usize, source: usize, n: usize) -> bool {
        let nw = words(self.c);
        let at = (q * self.rows + source) * nw;
        self.x[at..at + n * nw].iter().all(|w| *w == 0)
    }
    /// Masks \[taps * c, groups\] over rows `first..first + n` (32 to a word) of one plane.
    #[inline(always)]
    pub(super) fn masks(&self, plane: usize, first: usize, n: usize, groups: usize, out: &mut [u32]) {
        let nw = words(self.c);
        let mut sources = [[usize::MAX; 32]; 9];
        for g in 0..groups {
            sources.iter_mut().for_each(|s| s.fill(usize::MAX));
            for i in 0..32.min(n - g * 32) {
                self.each_tap(first + g * 32 + i, |tap, source| sources[tap][i] = plane * self.rows + source);
            }
            for (tap, sources) in sources.iter().enumerate().take(self.taps()) {
                for w in 0..nw {
                    let mut square = [0u32; 32];
                    for (s, &source) in square.iter_mut().zip(sources) {
                        if source != usize::MAX {
                            *s = self.x[source * nw + w];
                        }
                    }
                    transpose(&mut square);
                    for (i, mask) in square.iter().enumerate().take(32.min(self.c - w * 32)) {
                        out[(tap * self.c + w * 32 + i) * groups + g] = *mask;
                    }
                }
            }
        }
    }
}

/// Rows of x that are looked at together for being empty, as places where nothing happens are.
const TOGETHER: usize = 8;

/// The spikes of some rows of a matrix. Those of neighbours are looked for once where they lie, for nine rows have each of them.
pub(super) struct Near<'a> {
    a: &'a BitMatrix<'a>,
    /// The rows of x that were looked through.
    around: Range<usize>,
    /// Their spikes as (row - first row) c + channel: plane by plane where words are full, otherwise row by row.
    list: &'a [u32],
    /// Where those of each row begin, and the last of them end: \[runs, rows + 1\].
    starts: &'a [u32],
    /// Planes, or 1 where those of a row are together.
    runs: usize,
}

impl<'a> Near<'a> {
    /// For rows `rows` of the matrix; `room` is as long as [`BitMatrix::room_near`] says.
    #[inline(always)]
    pub(super) fn new(a: &'a BitMatrix<'a>, rows: Range<usize>, room: &'a mut [u32]) -> Self {
        let around = a.around(rows);
        let runs = if a.c.is_multiple_of(32) { a.planes } else { 1 };
        let (starts, list) = room.split_at_mut(if around.is_empty() { 0 } else { runs * (around.len() + 1) });
        let mut len = 0;
        for (run, starts) in starts.chunks_exact_mut(around.len() + 1).enumerate() {
            let planes = if runs == 1 { 0..a.planes } else { run..run + 1 };
            starts[0] = len as u32;
            for (i, starts) in starts[1..].chunks_mut(TOGETHER).enumerate() {
                let first = i * TOGETHER;
                if planes.clone().all(|q| a.empty(q, around.start + first, starts.len())) {
                    starts.fill(len as u32);
                    continue;
                }
                if a.c == 32 {
                    // Rows of one word: two at once, which follow each other as those of one row do.
                    let words = &a.x[planes.start * a.rows + around.start + first..][..starts.len()];
                    let ((pairs, word), (ends, end)) = (words.as_chunks::<2>(), starts.as_chunks_mut::<2>());
                    let mut column = 32 * first as u32;
                    for (words, ends) in pairs.iter().zip(ends) {
                        let end = len + words[0].count_ones() as usize;
                        len += columns_of(words, column, &mut list[len..]);
                        *ends = [end as u32, len as u32];
                        column += 64;
                    }
                    if let ([word], [end]) = (word, end) {
                        len += columns_of(&[*word], column, &mut list[len..]);
                        *end = len as u32;
                    }
                    continue;
                }
                for (i, start) in (first..).zip(starts) {
                    for q in planes.clone() {
                        a.list(q, around.start + i, i * a.c, list, &mut len);
                    }
                    *start = len as u32;
                }
            }
        }
        Near { a, around, list, starts, runs }
    }
    /// Writes the column of each spike of the rows from `first` on to `list`, and where those of each row begin and the last end to
    /// `starts`; `list` has room for 32 more than there are.
    #[inline(always)]
    pub(super) fn spikes(&self, first: usize, list: &mut [u32], starts: &mut [usize]) {
        let a = self.a;
        let mut len = 0;
        let Some((start, ends)) = starts.split_first_mut() else { return };
        *start = 0;
        let Pick::Neighbours(_, w) = a.pick else {
            for (i, end) in ends.iter_mut().enumerate() {
                let source = if let Pick::Listed(rows) = a.pick { rows[first + i] as usize } else { first + i };
                // Planes behind closed gates are empty, and so are rows of silent places.
                for q in (0..a.planes).filter(|q| !a.empty(*q, source, 1)) {
                    a.list(q, source, 0, list, &mut len);
                }
                *end = len;
            }
            return;
        };
        let mut x = first % w;
        let mut line = self.line(first - x);
        for (i, end) in ends.iter_mut().enumerate() {
            len += self.neighbours(&line, x, &mut list[len..]);
            *end = len;
            x += 1;
            if x == w {
                (line, x) = (self.line(first + i + 1), 0);
            }
        }
    }
    /// The line of an image whose first pixel is row `pixel` of the matrix.
    #[inline(always)]
    pub(super) fn line(&self, pixel: usize) -> Line {
        let Pick::Neighbours(h, w) = self.a.pick else { return Line::default() };
        let (y, c) = (pixel / w % h, self.a.c as u32);
        // Of the line above; before what was looked through where there is none, or where only the end of the line is asked for.
        let (above, rows) = (pixel.wrapping_sub(w).wrapping_sub(self.around.start), self.around.len() + 1);
        let ky = usize::from(y == 0);
        let at = above.wrapping_add(ky * w);
        let first = (3 * ky as u32 + 1).wrapping_sub(at as u32).wrapping_mul(c);
        Line { n: 3 - ky - usize::from(y + 1 == h), at, first, w, c, runs: self.runs, rows }
    }
    /// [`Near::spikes`] of one pixel of a convolution, in column x of a line; returns how many there are.
    #[inline(always)]
    pub(super) fn neighbours(&self, line: &Line, x: usize, list: &mut [u32]) -> usize {
        let (left, right) = (usize::from(x > 0), 1 + usize::from(x + 1 < line.w));
        let (mut at, mut first) = (line.at.wrapping_add(x) - left, line.first.wrapping_sub(x as u32 * line.c));
        let mut len = 0;
        for _ in 0..line.n {
            // Neighbours of one line follow each other in memory and in columns.
            for run in 0..line.runs {
                let starts = &self.starts[run * line.rows + at..][..=left + right];
                let (from, n) = (starts[0] as usize, starts[left + right] as usize - starts[0] as usize);
                // Sixteen at a time, whether they are there or not: a branch that cannot be foretold costs more.
                assert!(from + n + 16 <= self.list.len() && len + n + 16 <= list.len());
                let mut at = 0;
                loop {
                    // SAFETY: starts rise, and `at` is 0 or below n, so that `at` + 16 <= n + 16, for which there is room.
                    unsafe {
                        let mut columns = self.list.as_ptr().add(from + at).cast::<[u32; 16]>().read();
                        columns.iter_mut().for_each(|c| *c = first.wrapping_add(*c));
                        list.as_mut_ptr().add(len + at).cast::<[u32; 16]>().write(columns);
                    }
                    at += 16;
                    if at >= n {
                        break;
                    }
                }
                len += n;
            }
            at += line.w;
            first = first.wrapping_add(3u32.wrapping_sub(line.w as u32).wrapping_mul(line.c));
        }
        len
    }
}

/// A line of an image, for [`Near::neighbours`]; what is the same for all lines is here too, next to what is not.
#[derive(Default)]
pub(super) struct Line {
    /// How many lines of the 3x3 kernel lie in the image.
    n: usize,
    /// Where the first of them has its first pixel, counted from the first row that was looked through, and below zero (it wraps) where that
    /// pixel lies before it.
    at: usize,
    /// What makes a column of the weights of what is listed there.
    first: u32,
    /// Width.
    w: usize,
    /// Channels.
    c: u32,
    /// As in [`Near`].
    runs: usize,
    /// Entries of `starts` for a run.
    rows: usize,
}

/// The places of the set bits of each byte, the rest anything.
const PLACES: [[u8; 8]; 256] = {
    let mut table = [[0u8; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut len) = (0, 0);
        while bit < 8 {
            if byte >> bit & 1 != 0 {
                table[byte][len] = bit as u8;
                len += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    table
};

/// Writes `first` + the place of each set bit of one or two words to `list`, which has room for 32 more, and returns how many there are.
#[inline(always)]
pub(super) fn columns_of(words: &[u32], first: u32, list: &mut [u32]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx512vbmi2") && std::is_x86_feature_detected!("avx512bw") && wide() {
        let word = u64::from(words[0]) | words.get(1).map_or(0, |w| u64::from(*w) << 32);
        assert!(list.len() >= word.count_ones() as usize + 16);
        // SAFETY: this machine has the instructions, and the list room for what is written, 16 places at a time.
        return unsafe { compress_bytes(word, first, list.as_mut_ptr()) };
    }
    let mut len = 0;
    for (&word, first) in words.iter().zip([first, first + 32]) {
        len += columns_of_word(word, first, &mut list[len..]);
    }
    len
}

/// [`columns_of`] of one word.
#[inline(always)]
fn columns_of_word(word: u32, first: u32, list: &mut [u32]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if wide() {
        assert!(list.len() >= 32);
        // SAFETY: this machine has AVX-512, and the list room for what is written, 16 places each time.
        return unsafe { compress(word, first, list.as_mut_ptr()) };
    }
    // Eight places a byte whether they are there or not: at low rates a branch for each spike costs more.
    let mut len = 0;
    for (i, byte) in word.to_le_bytes().into_iter().enumerate() {
        let first = first + 8 * i as u32;
        let (places, list) = (&PLACES[usize::from(byte)], &mut list[len..len + 8]);
        for k in 0..8 {
            list[k] = first + u32::from(places[k]);
        }
        len += byte.count_ones() as usize;
    }
    len
}

/// [`columns_of_word`] by compression: at low rates most of the time of a product goes into it, and this halves it.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn compress(word: u32, first: u32, list: *mut u32) -> usize {
    use std::arch::x86_64::{
        _mm512_add_epi32, _mm512_maskz_compress_epi32, _mm512_set1_epi32, _mm512_setr_epi32, _mm512_storeu_si512,
    };
    let (low, high) = (word as u16, (word >> 16) as u16);
    let places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let columns = _mm512_add_epi32(places, _mm512_set1_epi32(first as i32));
    let len = low.count_ones() as usize;
    // SAFETY: the caller's promise.
    unsafe {
        _mm512_storeu_si512(list.cast(), _mm512_maskz_compress_epi32(low, columns));
        let columns = _mm512_add_epi32(columns, _mm512_set1_epi32(16));
        _mm512_storeu_si512(list.add(len).cast(), _mm512_maskz_compress_epi32(high, columns));
    }
    len + high.count_ones() as usize
}

/// [`columns_of`] of two words at once, where bytes can be compressed: a third of the time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn compress_bytes(word: u64, first: u32, list: *mut u32) -> usize {
    use std::arch::x86_64::{
        __m512i, _mm_loadu_si128, _mm512_add_epi32, _mm512_castsi512_si128, _mm512_cvtepu8_epi32, _mm512_set1_epi32,
        _mm512_storeu_si512,
    };
    const PLACES: [u8; 64] = {
        let mut places = [0; 64];
        let mut i = 0;
        while i < 64 {
            places[i] = i as u8;
            i += 1;
        }
        places
    };
    let n = word.count_ones() as usize;
    let first = _mm512_set1_epi32(first as i32);
    let mut found: __m512i;
    // SAFETY: the caller's promise. By name, for a function of VBMI2 would not be compiled into one that has AVX-512 alone.
    unsafe {
        std::arch::asm!(
            "vpcompressb {found}{{{mask}}}{{z}}, {places}",
            found = lateout(zmm_reg) found,
            mask = in(kreg) word,
            places = in(zmm_reg) std::ptr::read_unaligned(PLACES.as_ptr().cast::<__m512i>()),
            options(pure, nomem, nostack, preserves_flags),
        );
        _mm512_storeu_si512(list.cast(), _mm512_add_epi32(first, _mm512_cvtepu8_epi32(_mm512_castsi512_si128(found))));
        let bytes = std::mem::transmute::<__m512i, [u8; 64]>(found);
        for at in (16..n).step_by(16) {
            let columns = _mm512_cvtepu8_epi32(_mm_loadu_si128(bytes[at..].as_ptr().cast()));
            _mm512_storeu_si512(list.add(at).cast(), _mm512_add_epi32(first, columns));
        }
    }
    n
}

/// Transposes a square of 32 x 32 bits: bit j of word i becomes bit i of word j.
#[inline(always)]
pub(super) fn transpose(a: &mut [u32; 32]) {
    let (mut half, mut mask) = (16, 0x0000_ffffu32);
    while half != 0 {
        let mut k = 0;
        while k < 32 {
            for i in k..k + half {
                let t = (a[i] >> half ^ a[i + half]) & mask;
                a[i] ^= t << half;
                a[i + half] ^= t;
            }
            k += 2 * half;
        }
        half >>= 1;
        mask ^= mask << half;
    }
}

impl Rows for BitMatrix<'_> {
    fn rows(&self) -> usize {
        if let Pick::Listed(list) = self.pick { list.len() } else { self.rows }
    }
    fn k(&self) -> usize {
        self.taps() * self.c
    }
    fn unit(&self) -> usize {
        if let Pick::Neighbours(h, w) = self.pick { h * w } else { 1 }
    }
    fn fill(&self, first: usize, n: usize, out: &mut [f32]) {
        let (c, nw) = (self.c, words(self.c));
        simd(
            #[inline(always)]
            || {
                for (i, out) in out.chunks_exact_mut(self.taps() * c).enumerate().take(n) {
                    let mut met = 0;
                    self.each_tap(
                        first + i,
                        #[inline(always)]
                        |tap, source| {
                            let out = &mut out[tap * c..(tap + 1) * c];
                            for q in 0..self.planes {
                                let at = (q * self.rows + source) * nw;
                                unpack_row(&self.x[at..at + nw], out, q > 0);
                            }
                            met |= 1 << tap;
                        },
                    );
                    (0..self.taps()).filter(|tap| met >> tap & 1 == 0).for_each(|tap| out[tap * c..(tap + 1) * c].fill(0.0));
                }
            },
        );
    }
}

/// Calls `f(first tap, first input pixel, pixels)` for each of the three lines around output pixel `i` that lie inside images of h x w.
#[inline(always)]
pub(super) fn each_line(i: usize, h: usize, w: usize, mut f: impl FnMut(usize, usize, usize)) {
    // Divisions of 32 bits take a third of the time of those of 64.
    let (i, h, w) = (i as u32, h as u32, w as u32);
    let (line, x) = (i / w, i % w);
    let y = line % h;
    let (left, right) = (x.saturating_sub(1), (x + 2).min(w));
    let n = (right - left) as usize;
    for ky in 0..3 {
        if y + ky >= 1 && y + ky <= h {
            let tap = 3 * ky + left + 1 - x;
            f(tap as usize, ((line + ky - 1) * w + left) as usize, n);
        }
    }
}

/// Calls `f(tap, input pixel)` for the taps (3 ky + kx) of output pixel `i` that lie inside images of h x w.
#[inline(always)]
pub fn each_tap(i: usize, h: usize, w: usize, mut f: impl FnMut(usize, usize)) {
    let (x, y, base) = (i % w, i / w % h, i / (w * h) * h * w);
    for ky in 0..3 {
        for kx in 0..3 {
            let (yy, xx) = (y + ky, x + kx);
            if yy >= 1 && yy <= h && xx >= 1 && xx <= w {
                f(ky * 3 + kx, base + (yy - 1) * w + xx - 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One word and two, from none to all of their bits, in each way that this machine has.
    #[test]
    fn lists_the_places_of_bits() {
        let mut rng = crate::rng::Rng::new(2);
        for rate in [0.0, 0.02, 0.2, 0.5, 0.9, 1.0] {
            for n in [1, 2] {
                let words: Vec<u32> = (0..n).map(|_| (0..32).fold(0, |w, i| w | u32::from(rng.f64() < rate) << i)).collect();
                let want: Vec<u32> =
                    (0..32 * n as u32).filter(|i| words[*i as usize / 32] >> (i % 32) & 1 != 0).map(|i| 7 + i).collect();
                let mut list = vec![0; want.len() + 32];
                let len = simd(
                    #[inline(always)]
                    || columns_of(&words, 7, &mut list),
                );
                assert_eq!(list[..len], want, "{rate} {n}");
                let mut len = 0;
                for (&word, first) in words.iter().zip([7, 39]) {
                    len += columns_of_word(word, first, &mut list[len..]);
                }
                assert_eq!(list[..len], want, "{rate} {n}, one by one");
            }
        }
    }

    #[test]
    fn transposes_bits() {
        let mut rng = crate::rng::Rng::new(1);
        let a: [u32; 32] = std::array::from_fn(|_| rng.u32());
        let mut t = a;
        transpose(&mut t);
        for i in 0..32 {
            for j in 0..32 {
                assert_eq!(a[i] >> j & 1, t[j] >> i & 1, "{i} {j}");
            }
        }
    }
}
