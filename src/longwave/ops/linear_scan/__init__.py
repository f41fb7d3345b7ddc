"""h[t] = a[t] h[t-1] + b[t]: the linear recurrence under LRU, S5, RetNet and every other linear RNN."""
