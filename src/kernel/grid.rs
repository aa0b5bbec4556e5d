//! The size of a launch that only the device knows: see [`Kernel::counted`]. The GPU runtime launches this by itself, once for each count and
//! rule; on the CPU the twin of the counted kernel looks at the count.

use super::{Args, Case, Counted, Data, Kernel, Tolerance};
use crate::uniform;

uniform! {
    /// Uniform of [`Grid`].
    #[derive(PartialEq, Eq)]
    pub struct GridU {
        /// See [`Counted::rows`].
        rows: u32,
        /// See [`Counted::threads`].
        threads: u32,
        /// Invocations of a workgroup.
        workgroup: u32,
        /// Workgroups that the device takes in one direction.
        side: u32
    }
}

impl GridU {
    /// The uniform for a kernel whose workgroups have `workgroup` invocations.
    pub fn new(c: Counted, workgroup: u32, side: u32) -> Self {
        GridU { rows: c.rows.max(1), threads: c.threads, workgroup, side }
    }
}

/// count\[1\] -> grid\[3\], workgroups in each direction: what an indirect dispatch reads.
pub struct Grid;

impl Kernel for Grid {
    head!("grid/counted", GridU, [count: ReadU32, grid: WriteU32]);
    fn workgroup(&self) -> u32 {
        1
    }
    fn threads(&self, _: &GridU) -> usize {
        1
    }
    fn cpu(&self, u: &GridU, args: &mut Args<'_>) {
        let groups = (args.u32(0)[0].div_ceil(u.rows) * u.threads).div_ceil(u.workgroup);
        let y = groups.div_ceil(u.side).max(1);
        args.out_u32(0).copy_from_slice(&[groups.div_ceil(y), y, 1]);
    }
    fn cases(&self) -> Vec<Case<GridU>> {
        [
            (0, 64, 512, 256, 65_535),
            (1, 64, 512, 256, 65_535),
            (129, 64, 256, 256, 65_535),
            (1000, 1, 70, 64, 65_535),
            (1000, 1, 70, 64, 100),
            (4096, 1, 64, 64, 64),
            (7, 3, 5, 1, 4),
            (1 << 20, 1, 4000, 64, 65_535),
        ]
        .map(|(n, rows, threads, workgroup, side)| {
            let name = format!("{n} by {rows}, {threads} each, groups of {workgroup}, {side} a side");
            Case::new(name, GridU { rows, threads, workgroup, side }, vec![Data::U32(vec![n])], vec![3])
        })
        .into()
    }
    fn tolerance(&self) -> Tolerance {
        Tolerance::Exact
    }
}
