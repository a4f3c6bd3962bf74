//! Who belongs to whom: pairs with the greatest sum of weights.

/// For each row the column that it is paired with, such that the weights of all pairs have the greatest sum. A row and a
/// column whose weight is not above 0 are never paired. `weights` is row after row.
///
/// The Hungarian method with shortest augmenting paths (Jonker and Volgenant 1987): `rows^2 (rows + columns)` steps.
pub(super) fn assign(weights: &[f64], rows: usize, columns: usize) -> Vec<Option<usize>> {
    assert_eq!(weights.len(), rows * columns);
    let mut paths = Paths {
        weights,
        columns,
        row_price: vec![0.0; rows],
        column_price: vec![0.0; columns + rows],
        owner: vec![None; columns + rows],
    };
    for row in 0..rows {
        paths.augment(row);
    }
    let mut pairs = vec![None; rows];
    for (column, owner) in paths.owner.iter().enumerate().take(columns) {
        if let Some(row) = *owner
            && weights[row * columns + column] > 0.0
        {
            pairs[row] = Some(column);
        }
    }
    pairs
}

/// An assignment of the rows so far, the cheapest there is. Beyond the real columns there is one for each row that costs
/// nothing and means "nobody".
struct Paths<'a> {
    weights: &'a [f64],
    columns: usize,
    row_price: Vec<f64>,
    column_price: Vec<f64>,
    owner: Vec<Option<usize>>,
}

impl Paths<'_> {
    fn cost(&self, row: usize, column: usize) -> f64 {
        if column < self.columns {
            -self.weights[row * self.columns + column].max(0.0)
        } else {
            0.0
        }
    }

    /// Adds a row: Dijkstra's algorithm to the nearest free column, then everyone on the path moves on by one.
    fn augment(&mut self, row: usize) {
        let count = self.owner.len();
        let mut distance = vec![f64::INFINITY; count];
        let mut before = vec![None; count];
        let mut reached = Vec::new();
        let (mut open, mut last, mut walker, mut length) =
            ((0..count).collect::<Vec<_>>(), None, row, 0.0);
        loop {
            for &column in &open {
                let step =
                    self.cost(walker, column) - self.row_price[walker] - self.column_price[column];
                if length + step < distance[column] {
                    (distance[column], before[column]) = (length + step, last);
                }
            }
            let nearest =
                (0..open.len()).min_by(|&a, &b| distance[open[a]].total_cmp(&distance[open[b]]));
            let column = open.swap_remove(nearest.expect("there are as many columns as rows"));
            length = distance[column];
            match self.owner[column] {
                Some(owner) => {
                    reached.push((column, owner));
                    (last, walker) = (Some(column), owner);
                }
                None => {
                    last = Some(column);
                    break;
                }
            }
        }
        self.row_price[row] += length;
        for (column, owner) in reached {
            self.row_price[owner] += length - distance[column];
            self.column_price[column] -= length - distance[column];
        }
        while let Some(column) = last {
            last = before[column];
            self.owner[column] = last.map_or(Some(row), |previous| self.owner[previous]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By trying all.
    fn best(weights: &[f64], row: usize, rows: usize, columns: usize, used: &mut Vec<bool>) -> f64 {
        if row == rows {
            return 0.0;
        }
        let mut found = best(weights, row + 1, rows, columns, used);
        for column in 0..columns {
            let weight = weights[row * columns + column];
            if !used[column] && weight > 0.0 {
                used[column] = true;
                found = found.max(weight + best(weights, row + 1, rows, columns, used));
                used[column] = false;
            }
        }
        found
    }

    #[test]
    fn sums_are_the_greatest_there_are() {
        let mut state = 7_u64;
        let mut random = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 40) as f64 / f64::from(1 << 24)
        };
        for round in 0..400 {
            let (rows, columns) = (round % 6, round / 6 % 7);
            let weights: Vec<f64> = (0..rows * columns).map(|_| random() - 0.4).collect();
            let pairs = assign(&weights, rows, columns);
            let mut used = vec![false; columns];
            let mut sum = 0.0;
            for (row, column) in pairs.iter().enumerate() {
                let Some(column) = *column else { continue };
                assert!(!std::mem::replace(&mut used[column], true));
                assert!(weights[row * columns + column] > 0.0);
                sum += weights[row * columns + column];
            }
            let expected = best(&weights, 0, rows, columns, &mut vec![false; columns]);
            assert!(
                (sum - expected).abs() < 1e-9,
                "{rows}x{columns}: {sum} {expected}"
            );
        }
    }

    #[test]
    fn the_second_best_for_one_may_be_the_best_for_all() {
        let weights = [0.9, 0.8, 0.85, 0.1];
        assert_eq!(assign(&weights, 2, 2), [Some(1), Some(0)]);
        assert_eq!(assign(&[0.0, -1.0, 0.0, 0.3], 2, 2), [None, Some(1)]);
        assert_eq!(assign(&[], 3, 0), [None; 3]);
    }
}
