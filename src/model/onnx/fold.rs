//! Arithmetic on constants: what exporters leave of the computation of shapes.

use std::rc::Rc;

use super::constant::{Constant, Elements};

/// The longest list that is put together: shapes are short.
const MAX_LENGTH: usize = 1 << 20;

/// Elementwise arithmetic of two constants: of equal shapes, or one of them a single element.
pub(super) fn binary(op: &str, a: &Constant, b: &Constant) -> Option<Constant> {
    let dims = match (a.data.len(), b.data.len()) {
        _ if a.dims == b.dims => &a.dims,
        (_, 1) => &a.dims,
        (1, _) => &b.dims,
        _ => return None,
    };
    let length = dims.iter().product::<usize>();
    fn pairs<T: Copy, R>(
        length: usize,
        [a, b]: [&[T]; 2],
        rule: impl Fn(T, T) -> Option<R>,
    ) -> Option<Vec<R>> {
        let at = |data: &[T], i: usize| data.get(if data.len() == 1 { 0 } else { i }).copied();
        (0..length).map(|i| rule(at(a, i)?, at(b, i)?)).collect()
    }
    let data = match (a.reals(), b.reals()) {
        (Some(a), Some(b)) => {
            let rule: fn(f32, f32) -> f32 = match op {
                "Add" => |x, y| x + y,
                "Sub" => |x, y| x - y,
                "Mul" => |x, y| x * y,
                _ => |x, y| x / y,
            };
            Elements::F32(pairs(length, [&a, &b], |x, y| Some(rule(x, y)))?)
        }
        _ => {
            let rule: fn(i64, i64) -> Option<i64> = match op {
                "Add" => i64::checked_add,
                "Sub" => i64::checked_sub,
                "Mul" => i64::checked_mul,
                _ => i64::checked_div,
            };
            Elements::I64(pairs(length, [&a.integers()?, &b.integers()?], rule)?)
        }
    };
    Some(Constant::new(dims.clone(), data))
}

/// One divided by each element. `None` for integers and zeros.
pub(super) fn reciprocal(constant: &Constant) -> Option<Rc<Constant>> {
    let reals = constant.reals()?;
    let inverse: Vec<f32> = reals.iter().map(|real| 1.0 / real).collect();
    let is_sound = inverse.iter().all(|real| real.is_finite());
    is_sound.then(|| Rc::new(Constant::new(constant.dims.clone(), Elements::F32(inverse))))
}

/// Lists of integers, or of real values, one after the other.
pub(super) fn concat<'a>(parts: impl Iterator<Item = &'a Constant>) -> Option<Constant> {
    let parts: Vec<&Constant> = parts.filter(|part| part.data.len() > 0).collect();
    let length: usize = parts.iter().map(|part| part.data.len()).sum();
    if length > MAX_LENGTH || parts.iter().any(|part| part.dims.len() != 1) {
        return None;
    }
    let reals: Option<Vec<Vec<f32>>> = parts.iter().map(|part| part.reals()).collect();
    let data = match reals {
        Some(reals) => Elements::F32(reals.concat()),
        None => {
            let integers: Option<Vec<Vec<i64>>> =
                parts.iter().map(|part| part.integers()).collect();
            Elements::I64(integers?.concat())
        }
    };
    Some(Constant::new(vec![data.len()], data))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(values: &[i64]) -> Constant {
        Constant::new(vec![values.len()], Elements::I64(values.to_vec()))
    }

    #[test]
    fn integers_are_computed_without_wrapping() {
        let sum = |a: &[i64], b: &[i64]| binary("Add", &list(a), &list(b)).map(|sum| sum.data);
        assert_eq!(sum(&[1, 2], &[10]), Some(Elements::I64(vec![11, 12])));
        assert_eq!(sum(&[i64::MAX], &[1]), None);
        assert_eq!(sum(&[1, 2], &[1, 2, 3]), None);
        assert_eq!(binary("Div", &list(&[1]), &list(&[0])), None);
    }

    #[test]
    fn lists_are_joined() {
        let parts = [list(&[1, 2]), list(&[]), list(&[3])];
        assert_eq!(concat(parts.iter()), Some(list(&[1, 2, 3])));
        let scalar = Constant::new(vec![], Elements::I64(vec![1]));
        assert_eq!(concat([&scalar].into_iter()), None);
    }
}
