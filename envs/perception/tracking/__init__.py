"""One object followed among look-alikes: a coarse regression of every place, a closed-form one of what is left."""
