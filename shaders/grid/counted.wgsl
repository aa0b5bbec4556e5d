// The workgroups of a launch from a count on the device: (x, y, 1), folded to at most `side` groups in each direction.
struct U { rows: u32, threads: u32, workgroup: u32, side: u32 }
@group(0) @binding(0) var<uniform> u: U;
@group(0) @binding(1) var<storage, read> count: array<u32>;
@group(0) @binding(2) var<storage, read_write> grid: array<u32>;

fn ceil_div(n: u32, d: u32) -> u32 { return n / d + u32(n % d != 0u); }

@compute @workgroup_size(1)
fn main() {
    let groups = ceil_div(ceil_div(count[0], u.rows) * u.threads, u.workgroup);
    let y = max(ceil_div(groups, u.side), 1u);
    grid[0] = ceil_div(groups, y);
    grid[1] = y;
    grid[2] = 1u;
}
