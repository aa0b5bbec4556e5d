//! Counter-based random numbers: Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
//!
//! A stream is a key; the n-th number of a stream is a pure function of key and n. So a sample's numbers do not depend on
//! which thread draws them or on what was drawn before, and a run resumes by storing nothing but its seed and its step.
//! Additions, rotations and XORs of u32 are all it takes, so that a shader can draw the same stream.

use ndarray_rand::rand::RngCore;

/// One stream of random numbers.
///
/// ```
/// use spikemix::rng::Rng;
/// let mut a = Rng::new(7).stream("shuffle").stream(3);
/// let mut b = Rng::new(7).stream("shuffle").stream(3);
/// assert_eq!(a.u64(), b.u64());
/// ```
#[derive(Clone, Debug)]
pub struct Rng {
    key: [u32; 2],
    counter: u64,
    spare: Option<u32>,
}

/// What can name a sub-stream: a number or a word.
pub trait StreamName {
    /// The name as 64 bits.
    fn bits(&self) -> u64;
}
impl StreamName for u64 {
    fn bits(&self) -> u64 {
        *self
    }
}
impl StreamName for usize {
    fn bits(&self) -> u64 {
        *self as u64
    }
}
impl StreamName for i32 {
    fn bits(&self) -> u64 {
        *self as u64
    }
}
impl StreamName for &str {
    /// FNV-1a of the bytes.
    fn bits(&self) -> u64 {
        self.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
    }
}

/// Threefry-2x32-20: 64 random bits from a key and a counter.
pub fn threefry(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];
    let ks = [key[0], key[1], 0x1BD1_1BDA ^ key[0] ^ key[1]];
    let (mut x, mut y) = (counter[0].wrapping_add(ks[0]), counter[1].wrapping_add(ks[1]));
    for round in 0..20 {
        x = x.wrapping_add(y);
        y = y.rotate_left(ROTATIONS[round % 8]) ^ x;
        if round % 4 == 3 {
            let i = round / 4 + 1;
            x = x.wrapping_add(ks[i % 3]);
            y = y.wrapping_add(ks[(i + 1) % 3]).wrapping_add(i as u32);
        }
    }
    [x, y]
}

fn split(v: u64) -> [u32; 2] {
    [v as u32, (v >> 32) as u32]
}

impl Rng {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Rng { key: split(seed), counter: 0, spare: None }
    }
    /// An independent stream named by `name`; it does not depend on how much this one was used.
    pub fn stream(&self, name: impl StreamName) -> Rng {
        // The top bit of the counter is never reached by drawing numbers, so names and numbers do not collide.
        let [lo, hi] = split(name.bits());
        let mixed = threefry(self.key, [lo, hi | 1 << 31]);
        Rng { key: threefry(mixed, [hi, lo]), counter: 0, spare: None }
    }
    /// The key of the stream, for drawing from it elsewhere (`threefry`).
    pub fn key(&self) -> [u32; 2] {
        self.key
    }
    /// 64 uniform bits.
    pub fn u64(&mut self) -> u64 {
        let [a, b] = threefry(self.key, split(self.counter));
        self.counter += 1;
        u64::from(a) | u64::from(b) << 32
    }
    /// 32 uniform bits.
    pub fn u32(&mut self) -> u32 {
        if let Some(v) = self.spare.take() {
            return v;
        }
        let v = self.u64();
        self.spare = Some((v >> 32) as u32);
        v as u32
    }
    /// Uniform in [0, 1) with 24 bits.
    pub fn f32(&mut self) -> f32 {
        (self.u32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }
    /// Uniform in [0, 1) with 53 bits.
    pub fn f64(&mut self) -> f64 {
        (self.u64() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }
    /// Uniform in [low, high).
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.f64()
    }
    /// Uniform in 0..n, without bias; 0 for n = 0.
    pub fn below(&mut self, n: usize) -> usize {
        // Lemire's multiply-and-reject.
        let n = n as u64;
        if n == 0 {
            return 0;
        }
        let floor = n.wrapping_neg() % n;
        loop {
            let m = u128::from(self.u64()) * u128::from(n);
            if m as u64 >= floor {
                return (m >> 64) as usize;
            }
        }
    }
    /// Standard normal (Box-Muller).
    pub fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.f64(), self.f64());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
    /// Shuffles in place (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// So that the distributions of `ndarray-rand` can draw from a stream.
impl RngCore for Rng {
    fn next_u32(&mut self) -> u32 {
        self.u32()
    }
    fn next_u64(&mut self) -> u64 {
        self.u64()
    }
    fn fill_bytes(&mut self, dst: &mut [u8]) {
        for chunk in dst.chunks_mut(8) {
            chunk.copy_from_slice(&self.u64().to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of Random123's test vectors.
    #[test]
    fn threefry_known_answers() {
        assert_eq!(threefry([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(threefry([u32::MAX; 2], [u32::MAX; 2]), [0x1cb9_96fc, 0xbb00_2be7]);
        assert_eq!(threefry([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3]), [0xc492_3a9c, 0x483d_f7a0]);
    }

    #[test]
    fn streams_are_independent_of_use() {
        let mut used = Rng::new(1);
        used.u64();
        assert_eq!(used.stream("a").u64(), Rng::new(1).stream("a").u64());
        assert_ne!(Rng::new(1).stream("a").u64(), Rng::new(1).stream("b").u64());
    }

    #[test]
    fn moments() {
        let mut r = Rng::new(3);
        let n = 20_000;
        let (mut m, mut s) = (0.0, 0.0);
        for _ in 0..n {
            let v = r.normal();
            m += v;
            s += v * v;
        }
        assert!((m / n as f64).abs() < 0.03 && (s / n as f64 - 1.0).abs() < 0.05);
        let mut seen = [0; 7];
        (0..7000).for_each(|_| seen[r.below(7)] += 1);
        assert!(seen.iter().all(|&c| (850..1150).contains(&c)), "{seen:?}");
    }
}
