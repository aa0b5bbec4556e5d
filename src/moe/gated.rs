//! What closed gates would allow to leave out beside what is left out: operations that were done and whose results met a closed gate. Counted for reports only
//! ([`Keep::detail`](crate::counts::Keep)), and never called a saving.

use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::kernel::words;
use crate::ops::active::Active;
use crate::tensor::Tensor;

/// Counts, for every (step, sample, token) that was computed and whose gate to expert `i` of `r` `[.., experts]` is closed, the spikes of
/// that row in each of `work` times the targets that each spike reaches, at operation `mixture` of `place`. All rows were computed where
/// `active` is not given.
pub(super) fn experts(
    cx: &mut Ctx<'_>,
    place: &str,
    r: &Tensor,
    i: usize,
    active: Option<&Active>,
    work: &[(&Tensor, usize)],
) -> Result<()> {
    if !cx.counts().is_some_and(|c| c.keep.detail) {
        return Ok(());
    }
    let r = &cx.real(r)?;
    let gates = r.words()?;
    let pitch = words(r.channels());
    let rows: Vec<u32> = active.map_or_else(|| Ok((0..r.rows() as u32).collect()), Active::rows)?;
    let closed = |row: &&usize| gates[**row * pitch + i / 32] >> (i % 32) & 1 == 0;
    let rows: Vec<usize> = rows.iter().map(|&row| row as usize).collect();
    let mut sum = 0;
    for (x, targets) in work {
        let x = &cx.real(x)?;
        let (planes, width) = (x.expect_bits("gated")?, words(x.channels()));
        if x.rows() != r.rows() {
            return Err(Error::shape("gated", format!("{x:?} behind gates {r:?}")));
        }
        let bits = x.words()?;
        for row in rows.iter().filter(closed) {
            for p in 0..planes {
                let at = (p * x.rows() + row) * width;
                sum += bits[at..at + width].iter().map(|w| u64::from(w.count_ones())).sum::<u64>() * *targets as u64;
            }
        }
    }
    cx.counts().into_iter().for_each(|c| c.add_gated(place, "mixture", sum));
    Ok(())
}

/// Counts the additions of a depth-wise 3x3 convolution of `x` (spikes `[T, B, H, W, C]`) whose target is closed in `r` of that shape,
/// at operation `and` of `place`.
pub(super) fn depthwise(cx: &mut Ctx<'_>, place: &str, x: &Tensor, r: &Tensor) -> Result<()> {
    if !cx.counts().is_some_and(|c| c.keep.detail) {
        return Ok(());
    }
    let (x, r) = (&cx.real(x)?, &cx.real(r)?);
    let (&[t, b, h, w, c], true) = (x.shape(), x.shape() == r.shape() && x.planes() == 1 && r.planes() == 1) else {
        return Err(Error::shape("gated", format!("{x:?} behind gates {r:?}")));
    };
    let (bits, gates, width) = (x.words()?, r.words()?, words(c));
    let place_of = |image: usize, y: usize, x: usize| {
        let at = ((image * h + y) * w + x) * width;
        at..at + width
    };
    let mut sum = 0;
    for image in 0..t * b {
        for y in 0..h {
            for x in 0..w {
                let gate = &gates[place_of(image, y, x)];
                for dy in y.saturating_sub(1)..(y + 2).min(h) {
                    for dx in x.saturating_sub(1)..(x + 2).min(w) {
                        let from = &bits[place_of(image, dy, dx)];
                        sum += from.iter().zip(gate).map(|(s, g)| u64::from((s & !g).count_ones())).sum::<u64>();
                    }
                }
            }
        }
    }
    cx.counts().into_iter().for_each(|c| c.add_gated(place, "and", sum));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::{Counts, Keep};
    use crate::device::Device;
    use crate::params::Params;

    fn spikes(shape: &[usize], v: &[f32]) -> Tensor {
        Tensor::spikes_from_f32(&Device::Cpu, shape, v).unwrap()
    }

    #[test]
    fn by_hand() {
        let params = Params::new(&Device::Cpu);
        let mut cx = Ctx::infer(&params).with_counts(Counts::keeping(Keep { detail: true, ..Keep::default() }));
        // Two tokens, two experts; expert 1 is open for the first token only.
        let r = spikes(&[1, 1, 2, 2], &[1., 1., 0., 0.]);
        let q = spikes(&[1, 1, 2, 3], &[1., 1., 1., 1., 0., 1.]);
        let x = Tensor::planes_from_f32(&Device::Cpu, &[1, 1, 2, 2], &[1., 0., 2., 1.]).unwrap();
        experts(&mut cx, "a", &r, 1, None, &[(&q, 10), (&x, 100)]).unwrap();
        // One row of two channels of spikes; the gate of channel 0 is closed on the left, of channel 1 on the right.
        let e = spikes(&[1, 1, 1, 2, 2], &[1., 1., 1., 1.]);
        let g = spikes(&[1, 1, 1, 2, 2], &[0., 1., 1., 0.]);
        depthwise(&mut cx, "b", &e, &g).unwrap();
        let c = cx.finish().1.unwrap();
        let gated = [c.gated("a", "mixture"), c.gated("b", "and")];
        // The second token: two query spikes to 10 targets, integer spikes of 3 to 100. Each closed target hears its own place and one more.
        assert_eq!(gated, [320, 4]);
    }
}
