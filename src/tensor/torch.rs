//! PyTorch's layouts, converted at the edges: checkpoints, fixtures and arrays of users.

/// Tensors in PyTorch's layout: name to shape and values.
pub type Named = std::collections::BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Reorders axes: `order[i]` is the axis of the source that becomes axis `i`. Returns the new shape and data.
pub fn permute(shape: &[usize], data: &[f32], order: &[usize]) -> (Vec<usize>, Vec<f32>) {
    let new: Vec<usize> = order.iter().map(|&i| shape[i]).collect();
    let mut strides = vec![1; shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1] * shape[i + 1];
    }
    let by_new: Vec<usize> = order.iter().map(|&i| strides[i]).collect();
    let mut at = vec![0; new.len()];
    let mut out = Vec::with_capacity(data.len());
    for _ in 0..data.len() {
        out.push(data[at.iter().zip(&by_new).map(|(a, s)| a * s).sum::<usize>()]);
        for axis in (0..new.len()).rev() {
            at[axis] += 1;
            if at[axis] < new[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
    (new, out)
}

/// `[T, N, C, H, W]` to `[T, B, H, W, C]`.
pub fn channel_last(shape: &[usize], data: &[f32]) -> (Vec<usize>, Vec<f32>) {
    let n = shape.len();
    let order: Vec<usize> = (0..n - 3).chain([n - 2, n - 1, n - 3]).collect();
    permute(shape, data, &order)
}

/// `[T, B, H, W, C]` to `[T, N, C, H, W]`.
pub fn channel_first(shape: &[usize], data: &[f32]) -> (Vec<usize>, Vec<f32>) {
    let n = shape.len();
    let order: Vec<usize> = (0..n - 3).chain([n - 1, n - 3, n - 2]).collect();
    permute(shape, data, &order)
}

/// How a parameter is laid out here and in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The same in both.
    Plain,
    /// `[Ci, Co]` here, `[Co, Ci]` there (`nn.Linear`).
    Linear,
    /// `[Ci, Co]` here, `[Co, Ci, 1, 1]` there (a 1x1 `nn.Conv2d`).
    Pointwise,
    /// `[3, 3, Ci, Co]` here, `[Co, Ci, 3, 3]` there.
    Conv,
    /// `[3, 3, C]` here, `[C, 1, 3, 3]` there.
    Depthwise,
}

impl Layout {
    /// To PyTorch's shape and order.
    pub fn to_torch(self, shape: &[usize], data: &[f32]) -> (Vec<usize>, Vec<f32>) {
        match self {
            Layout::Plain => (shape.to_vec(), data.to_vec()),
            Layout::Linear => permute(shape, data, &[1, 0]),
            Layout::Pointwise => permute(&[shape[0], shape[1], 1, 1], data, &[1, 0, 2, 3]),
            Layout::Conv => permute(shape, data, &[3, 2, 0, 1]),
            Layout::Depthwise => permute(&[shape[0], shape[1], shape[2], 1], data, &[2, 3, 0, 1]),
        }
    }
    /// The shape PyTorch would hold.
    pub fn torch_shape(self, shape: &[usize]) -> Vec<usize> {
        match self {
            Layout::Plain => shape.to_vec(),
            Layout::Linear => vec![shape[1], shape[0]],
            Layout::Pointwise => vec![shape[1], shape[0], 1, 1],
            Layout::Conv => vec![shape[3], shape[2], shape[0], shape[1]],
            Layout::Depthwise => vec![shape[2], 1, shape[0], shape[1]],
        }
    }
    /// From PyTorch's shape and order, data only.
    pub fn from_torch(self, torch_shape: &[usize], data: &[f32]) -> Vec<f32> {
        match self {
            Layout::Plain => data.to_vec(),
            Layout::Linear => permute(torch_shape, data, &[1, 0]).1,
            Layout::Pointwise => permute(torch_shape, data, &[2, 3, 1, 0]).1,
            Layout::Conv | Layout::Depthwise => permute(torch_shape, data, &[2, 3, 1, 0]).1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_round_trip() {
        for (layout, shape) in [
            (Layout::Plain, vec![5]),
            (Layout::Linear, vec![3, 4]),
            (Layout::Pointwise, vec![3, 4]),
            (Layout::Conv, vec![3, 3, 2, 5]),
            (Layout::Depthwise, vec![3, 3, 7]),
        ] {
            let data: Vec<f32> = (0..shape.iter().product()).map(|i: usize| i as f32).collect();
            let (ts, td) = layout.to_torch(&shape, &data);
            assert_eq!(ts, layout.torch_shape(&shape));
            assert_eq!(layout.from_torch(&ts, &td), data, "{layout:?}");
        }
        // [Co, Ci] of a linear layer: row 1 here is input 1.
        assert_eq!(Layout::Linear.to_torch(&[2, 3], &[0., 1., 2., 10., 11., 12.]).1, [0., 10., 1., 11., 2., 12.]);
    }

    #[test]
    fn images_round_trip() {
        let data: Vec<f32> = (0..120).map(|i| i as f32).collect();
        let (s, last) = channel_last(&[1, 2, 3, 4, 5], &data);
        assert_eq!(s, [1, 2, 4, 5, 3]);
        assert_eq!(last[1], 20.0);
        assert_eq!(channel_first(&s, &last), (vec![1, 2, 3, 4, 5], data));
    }
}
