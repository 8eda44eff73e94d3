"""What a trained model is asked: score, next, generate."""
