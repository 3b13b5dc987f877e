"""Networks for sequences: recurrent, convolutional and attentional, all causal, one file each."""
