//! Pure path selection: priorities, groups, selectors, failback.
